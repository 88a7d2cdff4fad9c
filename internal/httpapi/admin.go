package httpapi

import (
	"context"
	"net/http"
)

func (a *api) createRole(ctx context.Context, x *exchange) error {
	r, err := decodeRole(x.body)
	if err != nil {
		return err
	}
	role, err := a.vault.CreateRole(ctx, x.caller(), r)
	if err != nil {
		return err
	}
	x.out.Header().Set("Location", "/v1/roles/"+role.Name) // names need no escaping
	return x.answer(http.StatusCreated, viewRole(*role))
}

func (a *api) listRoles(ctx context.Context, x *exchange) error {
	roles, err := a.vault.Roles(ctx, x.caller())
	if err != nil {
		return err
	}
	return x.answer(http.StatusOK, itemsView[roleView]{Items: views(roles, viewRole)})
}

func (a *api) readRole(ctx context.Context, x *exchange) error {
	role, err := a.vault.Role(ctx, x.caller(), x.name)
	if err != nil {
		return err
	}
	return x.answer(http.StatusOK, viewRole(*role))
}

func (a *api) deleteRole(ctx context.Context, x *exchange) error {
	if err := a.vault.DeleteRole(ctx, x.caller(), x.name); err != nil {
		return err
	}
	return x.empty()
}

func (a *api) setPermissions(ctx context.Context, x *exchange) error {
	permissions, err := decodePermissions(x.body)
	if err != nil {
		return err
	}
	role, err := a.vault.SetRolePermissions(ctx, x.caller(), x.name, permissions)
	if err != nil {
		return err
	}
	return x.answer(http.StatusOK, viewRole(*role))
}

func (a *api) createToken(ctx context.Context, x *exchange) error {
	r, err := decodeToken(x.body)
	if err != nil {
		return err
	}
	token, err := a.vault.CreateToken(ctx, x.caller(), r)
	if err != nil {
		return err
	}
	defer token.Release()
	return x.disclose(http.StatusCreated, func(d *disclosure) error { return d.token(token) })
}

func (a *api) listTokens(ctx context.Context, x *exchange) error {
	tokens, err := a.vault.Tokens(ctx, x.caller())
	if err != nil {
		return err
	}
	return x.answer(http.StatusOK, itemsView[tokenView]{Items: views(tokens, viewToken)})
}

func (a *api) revokeToken(ctx context.Context, x *exchange) error {
	if err := a.vault.RevokeToken(ctx, x.caller(), x.name); err != nil {
		return err
	}
	return x.empty()
}

func (a *api) listEvents(ctx context.Context, x *exchange) error {
	r, err := eventsRequest(x.query)
	if err != nil {
		return err
	}
	events, err := a.vault.Events(ctx, x.caller(), r)
	if err != nil {
		return err
	}
	return x.answer(http.StatusOK, itemsView[eventView]{Items: views(events, viewEvent)})
}

func (a *api) status(ctx context.Context, x *exchange) error {
	s, err := a.vault.Status(ctx, x.caller())
	if err != nil {
		return err
	}
	return x.answer(http.StatusOK, viewStatus(a.cfg.Version, s))
}
