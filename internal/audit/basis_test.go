package audit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/postgres"
)

// secrets makes n secrets with one version each and gives their rows as they are held.
func (f *fixture) secrets(n int) []postgres.Held {
	f.t.Helper()
	f.db.Exec(f.t, `INSERT INTO vault.secrets (id, name, kind, format, current_version)
		SELECT md5('s' || n)::uuid, 'app/' || n, 'manual', 'opaque', 1 FROM generate_series(1, $1::int) n`, n)
	f.db.Exec(f.t, `INSERT INTO vault.secret_versions (secret_id, version, version_uid, state, kms_key_id, wrapped_dek, nonce, ciphertext)
		SELECT md5('s' || n)::uuid, 1, gen_random_uuid(), 'current', 'key', 'wrapped', repeat('n', 24)::bytea, 'sealed' FROM generate_series(1, $1::int) n`, n)
	return f.held(n)
}

func (f *fixture) held(n int) []postgres.Held {
	f.t.Helper()
	type row struct {
		ID, UID                 uuid.UUID
		Secret, Version         pgtype.TID
		SecretXmin, VersionXmin uint32
	}
	var held []postgres.Held
	for _, r := range pgtest.Query[row](f.t, f.db, `SELECT s.id, v.version_uid, s.ctid, v.ctid, s.xmin, v.xmin FROM vault.secrets s JOIN vault.secret_versions v ON v.secret_id = s.id
		ORDER BY length(s.name), s.name LIMIT $1`, n) {
		held = append(held, postgres.Held{
			SecretID:   r.ID,
			Secret:     postgres.Tuple{Block: r.Secret.BlockNumber, Offset: r.Secret.OffsetNumber, Xmin: r.SecretXmin},
			VersionUID: r.UID, Version: postgres.Tuple{Block: r.Version.BlockNumber, Offset: r.Version.OffsetNumber, Xmin: r.VersionXmin},
		})
	}
	return held
}

func TestI2_AnAnswerLeavesOnlyIfWhatItRestsOnIsCurrent(t *testing.T) {
	t.Parallel()
	f := setup(t)
	held := f.secrets(3)
	trail := f.started("api")
	epoch := one[int64](f, "SELECT epoch FROM vault.authz_state")
	disclose := func(request string, basis Basis) error {
		t.Helper()
		err := trail.Disclose(t.Context(), basis, []Record{record(request)})
		if n := len(f.where(request)); n != 1 {
			t.Errorf("%s has %d records", request, n)
		}
		return err
	}
	connection := trail.Connection()
	must(t, disclose("nothing", Basis{}))
	if trail.Epoch() != epoch {
		t.Errorf("the epoch is %d, the trail says %d", epoch, trail.Epoch())
	}
	must(t, disclose("everything", Basis{Epoch: epoch, Connection: connection, Held: held}))

	f.db.Exec(t, "UPDATE vault.secret_versions SET state = state WHERE version_uid = $1", held[1].VersionUID)
	wantIs(t, disclose("a row that was written to", Basis{Connection: connection, Held: held}), ErrStale)
	must(t, disclose("the other rows", Basis{Connection: connection, Held: []postgres.Held{held[0], held[2]}}))
	wantIs(t, disclose("rows of another connection", Basis{Connection: connection - 1, Held: held[:1]}), ErrStale)
	wantIs(t, disclose("rows of no connection", Basis{Held: held[:1]}), ErrStale)
	wantIs(t, disclose("what another connection hasn't", Basis{Connection: connection + 7}), ErrStale)
	wantIs(t, disclose("rows of two connections", Basis{Connection: NoConnection, Held: held[:1]}), ErrStale)
	f.db.Exec(t, "UPDATE vault.authz_state SET epoch = epoch + 1")
	wantIs(t, disclose("other grants", Basis{Epoch: epoch, Connection: connection, Held: held[:1]}), postgres.ErrGrantsMoved)
	must(t, disclose("no grants", Basis{Connection: connection, Held: held[:1]}))
	must(t, disclose("the new grants", Basis{Epoch: epoch + 1}))
	f.db.Exec(t, "UPDATE vault.authz_state SET epoch = $1", epoch)
	wantIs(t, disclose("grants that went back", Basis{Epoch: epoch + 1}), postgres.ErrGrantsMoved)
	if trail.Epoch() != epoch {
		t.Errorf("the epoch is %d again, the trail says %d", epoch, trail.Epoch())
	}
	f.clean()
}

// Many answers in one round, each on rows of its own: only those whose rows were written to are held back.
func TestI2_EachAnswerOfARoundIsJudgedByItself(t *testing.T) {
	t.Parallel()
	f := setup(t)
	const n = 60
	held := f.secrets(n)
	a, run := f.loaded()
	f.db.Exec(t, "UPDATE vault.secrets SET description = 'written to' WHERE substr(name, 5)::int % 3 = 0")
	stale := func(i int) bool { return (i+1)%3 == 0 }

	errs := make([]error, n)
	var answers sync.WaitGroup
	for i := range n {
		// Of zero to two rows each, the first of them its own.
		basis := Basis{Epoch: int64(i%5) % 2, Connection: 1} // every other one of five rests on the grants of epoch 1, which are the current ones
		if i%4 != 0 {
			basis.Held = append(basis.Held, held[i])
		}
		if i%4 == 3 {
			basis.Held = append(basis.Held, held[0])
		}
		if i%10 == 9 {
			basis.Epoch = 2
		}
		answers.Go(func() {
			errs[i] = a.appendOn(t.Context(), patience, basis, recordsOf(names(fmt.Sprintf("%d-", i), 1+i%3)))
		})
	}
	eventually(t, "all are queued", func() bool { return a.queued() == n })
	run()
	answers.Wait()
	for i, err := range errs {
		switch {
		case i%10 == 9:
			wantIs(t, err, postgres.ErrGrantsMoved)
		case i%4 != 0 && stale(i):
			wantIs(t, err, ErrStale)
		case err != nil:
			t.Errorf("%d: %v", i, err)
		}
	}
	if heads := one[int](f, "SELECT count(*) FROM vault.audit_streams WHERE kind = 'read'"); heads != 1 {
		t.Errorf("it took %d streams", heads)
	}
	f.clean()
}

func TestI8_WhatWasReadBeforeTheConnectionWasLostIsStale(t *testing.T) {
	t.Parallel()
	f := setup(t)
	held := f.secrets(1)
	trail := f.started("api")
	before := trail.Connection()
	disclose := func() error {
		return trail.Disclose(t.Context(), Basis{Connection: before, Held: held}, []Record{record("read")})
	}
	must(t, disclose())
	f.db.Exec(t, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE datname = current_database() AND usename = 'sealkeep_api'`)
	eventually(t, "rounds run on another connection", func() bool { return trail.Ready() && trail.Connection() > before })
	eventually(t, "nothing else is wrong", func() bool { return errors.Is(disclose(), ErrStale) })
}

func TestABasisIsBounded(t *testing.T) {
	t.Parallel()
	trail := setup(t).started("api")
	err := trail.Disclose(t.Context(), Basis{Held: make([]postgres.Held, maxRoundHeld+1)}, recordsOf(names("r", 1)))
	wantKind(t, err, fault.Internal)
	must(t, trail.Append(t.Context(), record("next")))
}

// The bytes that wait are bounded, and those that left are no longer counted.
func TestTheQueueIsBoundedInBytes(t *testing.T) {
	t.Parallel()
	f := setup(t)
	a, run := f.loaded()
	ctx, leave := context.WithCancel(t.Context())
	large := record("large")
	large.Detail = make([]byte, maxDetailBytes)
	var waiting sync.WaitGroup
	n := maxQueuedBytes/(maxDetailBytes+recordBytes) + 1
	for range n {
		waiting.Go(func() { _ = a.append(ctx, patience, []Record{large}) })
	}
	eventually(t, "all are queued", func() bool { return a.queued() == n })
	wantIs(t, a.append(t.Context(), patience, []Record{record("one too many")}), errQueueFull)
	leave()
	waiting.Wait()
	run()
	eventually(t, "those that left are dropped", func() bool { return a.queued() == 0 })
	must(t, a.append(t.Context(), patience, []Record{record("later")}))
	if a.mu.Lock(); a.queuedBytes != 0 {
		t.Errorf("%d bytes are said to wait", a.queuedBytes)
	}
	a.mu.Unlock()
	if n := len(f.where("large")); n != 0 {
		t.Errorf("%d records of requests that had left", n)
	}
}

// What an answer rests on was true in its round. If this process gets to it much later, it may not be any more.
func TestAnAnswerThatWasNotPickedUpInTimeDoesNotLeave(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var mu sync.Mutex
	var ahead time.Duration
	clock := func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return time.Now().Add(ahead)
	}
	a := newAppender(f.trail("api", func(c *Config) { c.Clock = clock }), kindRead)
	a.ready.Store(true)
	a.connection.Store(1)
	answer := make(chan error, 1)
	go func() { answer <- a.append(t.Context(), patience, []Record{record("slow")}) }()
	eventually(t, "it is queued", func() bool { return a.queued() == 1 })
	mu.Lock()
	ahead = patience + time.Second
	mu.Unlock()
	a.take()[0].done <- nil // its round ended well
	wantIs(t, <-answer, errTooLate)
}
