package httpapi

import (
	"context"
	"net/http"

	"github.com/sealkeep/sealkeep/internal/vault"
)

func (a *api) createSecret(ctx context.Context, x *exchange) error {
	r, err := decodeCreate(x.body)
	defer release(r.Given)
	if err != nil {
		return err
	}
	if r.IdempotencyKey, err = requestKey(x.request.Header); err != nil {
		return err
	}
	s, err := a.vault.Create(ctx, x.caller(), r)
	if err != nil {
		return err
	}
	x.set(x.out.Header(), location, secretsPrefix+s.Name) // names need no escaping
	return x.secret(http.StatusCreated, s)
}

func (a *api) readSecret(ctx context.Context, x *exchange) error {
	r, err := readRequest(x)
	if err != nil {
		return err
	}
	s, err := a.vault.Read(ctx, x.caller(), r)
	if err != nil {
		return err
	}
	return x.secret(http.StatusOK, s)
}

func readRequest(x *exchange) (vault.ReadRequest, error) {
	r := vault.ReadRequest{Name: x.name}
	version, err := queryInt(x.query, "version")
	if err != nil {
		return r, err
	}
	r.Version = int64(version)
	r.IfNoneMatch, err = noneMatch(x.request.Header)
	return r, err
}

// secret answers with a secret, or that the client has it, and releases it.
func (x *exchange) secret(status int, s *vault.Secret) error {
	defer s.Release()
	x.set(x.out.Header(), etag, s.ETag())
	if s.NotModified {
		x.write(http.StatusNotModified, nil)
		return nil
	}
	return x.disclose(status, func(d *disclosure) error { return d.secret(s) })
}

func (a *api) updateSecret(ctx context.Context, x *exchange) error {
	r, err := decodeUpdate(x.body)
	defer release(r.Given)
	if err != nil {
		return err
	}
	r.Name = x.name
	if r.Precondition, err = precondition(x.request.Header); err != nil {
		return err
	}
	m, err := a.vault.Update(ctx, x.caller(), r)
	if err != nil {
		return err
	}
	if m.ETag != "" {
		x.set(x.out.Header(), etag, m.ETag)
	}
	return x.answer(http.StatusOK, viewMetadata(*m))
}

func (a *api) deleteSecret(ctx context.Context, x *exchange) error {
	p, err := precondition(x.request.Header)
	if err != nil {
		return err
	}
	if err := a.vault.Delete(ctx, x.caller(), x.name, p); err != nil {
		return err
	}
	return x.empty()
}

func (a *api) verifySecret(ctx context.Context, x *exchange) error {
	g, err := decodeVerify(x.body)
	defer release(g)
	if err != nil {
		return err
	}
	v, err := a.vault.Verify(ctx, x.caller(), x.name, g)
	if err != nil {
		return err
	}
	return x.disclose(http.StatusOK, func(d *disclosure) error { return d.verdict(v) })
}

func (a *api) listVersions(ctx context.Context, x *exchange) error {
	versions, err := a.vault.Versions(ctx, x.caller(), x.name)
	if err != nil {
		return err
	}
	return x.answer(http.StatusOK, versionsView{Name: x.name, Items: views(versions, viewVersion)})
}

func (a *api) listSecrets(ctx context.Context, x *exchange) error {
	r, err := listRequest(x.query)
	if err != nil {
		return err
	}
	page, err := a.vault.List(ctx, x.caller(), r)
	if err != nil {
		return err
	}
	return x.answer(http.StatusOK, pageView{Items: views(page.Items, viewMetadata), NextCursor: orNil(page.NextCursor)})
}

func (a *api) readBatch(ctx context.Context, x *exchange) error {
	names, err := decodeBatch(x.body)
	if err != nil {
		return err
	}
	list, err := a.vault.ReadBatch(ctx, x.caller(), names)
	defer func() {
		for _, s := range list {
			s.Release()
		}
	}()
	if err != nil {
		return err
	}
	return x.disclose(http.StatusOK, func(d *disclosure) error { return d.secrets(list) })
}
