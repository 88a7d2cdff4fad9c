package vault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/integrity"
	"github.com/sealkeep/sealkeep/internal/postgres"
	"github.com/sealkeep/sealkeep/internal/postgres/db"
	"github.com/sealkeep/sealkeep/internal/secret"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

const (
	// keptFor is how long a request is known by its idempotency key.
	keptFor = 24 * time.Hour
	// MaxIdempotencyKeyBytes bounds an idempotency key.
	MaxIdempotencyKeyBytes = 255
	// replayTries is how often a request that another one of its key overtook looks for what that made.
	replayTries = 3

	// outcomeReplayed is that of a request that was made before, and is answered with what it made then.
	outcomeReplayed = "replayed"
)

var (
	// errTaken says that another request of the same key was made meanwhile.
	errTaken = errors.New("another request has this idempotency key")

	errReused = fault.New(fault.Conflict, "this Idempotency-Key came with another request before: use another one for a new request").
			WithCode("idempotency_key_reused")
	errInProgress = &fault.Error{
		Kind: fault.Conflict, Code: "in_progress", RetryAfter: time.Second,
		Message: "a request with this Idempotency-Key is being made right now: send it again in a moment",
	}
	errMadeGone = fault.New(fault.NotFound, "what this request made before is gone")
)

// once is a request that takes effect once however often it is sent. A nil one is a request without a key, made each time.
type once struct {
	a       *attempt
	request integrity.Request
}

// once knows a request by its key, which belongs to the caller's token. fields and values are all that the request says beside its
// operation and name, always in one order.
func (a *attempt) once(key string, fields [][]byte, values ...sensitive.Bytes) (*once, error) {
	if key == "" {
		return nil, nil //nolint:nilnil // a request without a key
	}
	printable := len(key) <= MaxIdempotencyKeyBytes
	for i := range len(key) {
		printable = printable && key[i] >= ' ' && key[i] <= '~'
	}
	if !printable {
		return nil, fault.Newf(fault.Invalid, "Idempotency-Key is 1 to %d bytes of printable ASCII, such as a UUID", MaxIdempotencyKeyBytes)
	}
	return &once{a: a, request: integrity.Request{
		TokenID: a.who.tokenID, Key: key, Operation: a.op.action, Name: a.op.name, Fields: fields, Values: values,
	}}, nil
}

// do makes the request, or answers with what it made before.
func (o *once) do(ctx context.Context, make func() (*Rotated, error)) (*Rotated, error) {
	if o == nil {
		return make()
	}
	for range replayTries {
		before, err := o.replay(ctx)
		if before != nil || err != nil {
			return before, err
		}
		made, err := make()
		if !errors.Is(err, errTaken) {
			return made, err
		}
	}
	return nil, errInProgress
}

// take makes sure that no other request of the key is made until the transaction ends, and that none was. It comes first: whoever waits
// for another one of the key holds nothing that this one waits for.
func (o *once) take(ctx context.Context, tx *postgres.Tx) error {
	if o == nil {
		return nil
	}
	id, key := o.request.TokenID, o.request.Key
	if err := tx.LockRequest(ctx, id.String()+"/"+key); err != nil {
		if postgres.IsLockTimeout(err) {
			return errInProgress
		}
		return err
	}
	_, err := tx.KeptRequest(ctx, db.KeptRequestParams{TokenID: id, Key: key})
	if err == nil {
		return errTaken
	}
	if !postgres.IsNotFound(err) {
		return err
	}
	return tx.ForgetRequest(ctx, db.ForgetRequestParams{TokenID: id, Key: key})
}

// keep writes down what the request made: a version, or a job.
func (o *once) keep(ctx context.Context, tx *postgres.Tx, secretID uuid.UUID, versionUID, jobID *uuid.UUID) error {
	if o == nil {
		return nil
	}
	r := o.request
	r.SecretID, r.VersionUID, r.JobID = secretID, versionUID, jobID
	r.ExpiresAt = o.a.vault.trail.DatabaseTime().Add(keptFor).Truncate(time.Microsecond)
	mac, err := o.a.vault.keys.RequestMAC(&r)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "")
	}
	return exactly(1)(tx.KeepRequest(ctx, db.KeepRequestParams{
		TokenID: r.TokenID, Key: r.Key, RequestMac: mac, SecretID: secretID, VersionUid: versionUID, JobID: jobID, ExpiresAt: r.ExpiresAt,
	}))
}

// replay answers with what the request made before, as far as the caller may see it now, or gives nil if it was not made.
func (o *once) replay(ctx context.Context) (*Rotated, error) {
	v := o.a.vault
	row, err := v.db.KeptRequest(ctx, db.KeptRequestParams{TokenID: o.request.TokenID, Key: o.request.Key})
	if postgres.IsNotFound(err) {
		return nil, nil //nolint:nilnil // it was not made
	}
	if err != nil {
		return nil, err
	}
	r := o.request
	r.SecretID, r.VersionUID, r.JobID, r.ExpiresAt = row.SecretID, row.VersionUid, row.JobID, row.ExpiresAt
	switch err := v.keys.CheckRequest(&r, row.RequestMac); {
	case errors.Is(err, integrity.ErrForged):
		return nil, errReused
	case err != nil:
		return nil, fault.Wrap(fault.Internal, err, "")
	}
	made := &Rotated{}
	if row.JobID != nil {
		made.Job, err = o.a.job(ctx, *row.JobID)
	} else {
		made.Secret, err = o.a.again(ctx, row.SecretID, row.VersionUid)
	}
	if errors.Is(err, errNoJob) || errors.Is(err, errNoSecret) {
		err = errMadeGone
	}
	if err != nil {
		return nil, err
	}
	o.a.outcome = outcomeReplayed
	return made, nil
}

// again gives a version that a request made: with its value if it is still valid and the caller may read it.
func (a *attempt) again(ctx context.Context, secretID uuid.UUID, uid *uuid.UUID) (*Secret, error) {
	row, versions, err := a.allVersions(ctx, a.op.name)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(versions, func(v db.VersionsRow) bool { return uid != nil && v.VersionUid == *uid })
	if row.VaultSecret.ID != secretID || at < 0 {
		return nil, errMadeGone // or another secret has the name now
	}
	made := &versions[at]
	if a.mayRead() && secret.Valid(secret.State(made.State), made.ExpiresAt, row.ReadAt) {
		s, err := a.sealed(ctx, a.op.name, true, true)
		if err != nil {
			return nil, err
		}
		version := s.version(made.Version, a.vault.trail.DatabaseTime())
		if s.ID == secretID && version != nil && version.UID == made.VersionUid {
			a.note("disclosed", true)
			return a.disclose(ctx, s, version)
		}
	}
	a.note("disclosed", false)
	a.version = made.Version
	return &Secret{
		Name: row.VaultSecret.Name, Kind: secret.Kind(row.VaultSecret.Kind), Format: secret.Format(row.VaultSecret.Format),
		Version: made.Version, VersionUID: made.VersionUid, CreatedAt: made.CreatedAt,
	}, nil
}

// PurgeRequests forgets requests whose time has passed, at most so many, and tells how many it forgot. It is housekeeping, and has no
// evidence: what a key was good for is over.
func PurgeRequests(ctx context.Context, database *postgres.DB, limit int) (int64, error) {
	n, err := database.PurgeRequests(ctx, int32(limit)) //nolint:gosec // some thousands
	if err != nil {
		return 0, fmt.Errorf("forgetting idempotency keys: %w", postgres.Fault(err))
	}
	return n, nil
}
