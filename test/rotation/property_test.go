package rotation

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/secret"
	"github.com/sealkeep/sealkeep/internal/sensitive"
	"github.com/sealkeep/sealkeep/internal/target"
	"github.com/sealkeep/sealkeep/internal/vault"
	"github.com/sealkeep/sealkeep/test/targetpg"
)

// TestI7_Property tries histories of three workers, of which any may stop anywhere, wake up late, or have its connection cut at any statement
// of its transactions, with the answer of a commit lost among that. A counter-example is shrunk.
func TestI7_Property(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	struck, steps := map[string]int{}, map[stage]int{}
	rapid.Check(t, func(rt *rapid.T) {
		h := newHistory(w, rt, struck, rapid.Bool().Draw(rt, "login secret"))
		h.steps = steps
		h.run()
	})
	statements := 0
	for _, n := range struck {
		statements += n
	}
	t.Logf("%d secrets, %v; connections were cut at %d statements, %d of them different", w.made, steps, statements, len(struck))
	if statements == 0 {
		t.Error("no connection was ever cut")
	}
}

// history is one secret's, from its creation until nothing is left to be done.
type history struct {
	*world
	rt     *rapid.T
	struck map[string]int

	id     uuid.UUID
	name   string
	role   string
	caller vault.Caller
	known  map[uuid.UUID]string // plaintext by version_uid
	hands  int
	byHand bool // changed by hand since the last rotation
	dues   int

	verifier, password string // of the target, as looked at last
	steps              map[stage]int
}

func newHistory(w *world, rt *rapid.T, struck map[string]int, login bool) *history {
	w.made++
	h := &history{
		world: w, rt: rt, struck: struck, name: fmt.Sprintf("db/app-%d", w.made), role: fmt.Sprintf("app %d", w.made), known: map[uuid.UUID]string{},
	}
	// What histories before this one left due is none of this one's business.
	w.exec("DELETE FROM vault.secrets WHERE name LIKE 'db/app-%'")
	for _, worker := range w.workers {
		worker.drop()
	}
	password := w.target.Role(w.t, h.role, "")
	h.caller = vault.Caller{Address: netip.MustParseAddr("127.0.0.1"), Token: sensitive.CopyString(w.vault.AdminToken), RequestID: h.name}
	year := int64(365 * 24 * 3600)
	at := &secret.PostgresTarget{Hosts: []string{w.target.Address}, Mode: secret.ModeSingle}
	if login {
		at.LoginSecret = w.admin(h.caller)
	}
	s, err := w.vault.Process.Vault().Create(w.t.Context(), h.caller, vault.CreateRequest{
		Name: h.name, Kind: "automatic", RotationIntervalSecs: &year,
		Given:  vault.Given{Username: sensitive.CopyString(h.role), Password: sensitive.CopyString(password)},
		Target: &secret.Target{Postgres: at},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	s.Release()
	h.id = pgtest.Query[uuid.UUID](w.t, w.vault.DB, "SELECT id FROM vault.secrets WHERE name = $1", h.name)[0]
	h.known[s.VersionUID] = password
	return h
}

// admin makes, once, the login secret of a role that may change the others' passwords, and names it.
func (w *world) admin(c vault.Caller) string {
	const name = "db/admin"
	if w.hasAdmin {
		return name
	}
	w.hasAdmin = true
	password := w.target.Admin(w.t, "admin")
	s, err := w.vault.Process.Vault().Create(w.t.Context(), c, vault.CreateRequest{
		Name: name, Kind: "manual", LoginHosts: []string{w.target.Address},
		Given: vault.Given{Username: sensitive.CopyString("admin"), Password: sensitive.CopyString(password)},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	s.Release()
	return name
}

func (h *history) run() {
	h.becomeDue()
	seldom := func(do func(*rapid.T)) func(*rapid.T) {
		return func(rt *rapid.T) {
			if rapid.IntRange(0, 3).Draw(rt, "seldom") == 0 {
				do(rt)
			}
		}
	}
	actions := map[string]func(*rapid.T){
		"overtake": h.overtake,
		"hurry":    h.hurry,
		"be due":   func(*rapid.T) { h.becomeDue() },
		"time":     func(*rapid.T) { h.lapse() },
		"crash":    seldom(func(rt *rapid.T) { h.any(rt).drop() }),
		"fail":     seldom(h.fail),
		"by hand":  seldom(func(*rapid.T) { h.put() }),
		"":         func(*rapid.T) { h.check() },
	}
	for i := range h.workers {
		for _, how := range []string{"works", "goes on", "and on"} {
			actions[fmt.Sprint(i, how)] = func(rt *rapid.T) { h.step(rt, h.workers[i]) }
		}
	}
	h.rt.Repeat(actions)
	h.settle()
}

func (h *history) any(rt *rapid.T) *worker {
	return h.workers[rapid.IntRange(0, len(h.workers)-1).Draw(rt, "worker")]
}

func (h *history) ctx() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(h.t.Context()), time.Minute)
}

// becomeDue makes the secret due if no job is under way.
func (h *history) becomeDue() {
	if h.stored(h.id).Job != "" {
		return
	}
	h.due(h.id)
	h.dues++
}

// overtake has another worker do all that is to be done, and what falls due after that, while the rest stand still.
func (h *history) overtake(rt *rapid.T) {
	ctx, cancel := h.ctx()
	defer cancel()
	if !slices.ContainsFunc(h.workers, func(w *worker) bool { return w.job == nil }) {
		h.any(rt).drop()
	}
	for range rapid.IntRange(1, 2).Draw(rt, "times") {
		h.becomeDue()
		h.lapse()
		for _, worker := range h.workers {
			if worker.job == nil {
				h.finish(ctx, worker)
				break
			}
		}
	}
}

// hurry takes a worker to where it is about to speak to the target, or to promote.
func (h *history) hurry(rt *rapid.T) {
	worker := h.any(rt)
	ctx, cancel := h.ctx()
	defer cancel()
	to := rapid.SampledFrom([]stage{apply, promote}).Draw(rt, "to")
	if worker.job == nil {
		h.becomeDue()
		h.lapse()
		if h.take(ctx, worker) != nil {
			return
		}
	}
	for worker.job != nil && worker.stage < to {
		if h.advance(ctx, worker) != nil {
			return
		}
	}
}

// finish takes what can be claimed through all stages.
func (h *history) finish(ctx context.Context, worker *worker) {
	if err := h.take(ctx, worker); err != nil {
		return
	}
	for tries := 0; worker.job != nil && tries < 20; tries++ {
		if err := h.advance(ctx, worker); err != nil {
			h.rt.Logf("%v: %v", worker.stage, err)
		}
		if tries == 19 {
			worker.drop()
		}
	}
}

// take has a worker claim a job, if there is one.
func (h *history) take(ctx context.Context, worker *worker) error {
	if _, err := worker.rotations.Enqueue(ctx, 10); err != nil {
		return err
	}
	jobs, err := worker.rotations.Claim(ctx, vault.ClaimRequest{Limit: 1, Lease: 10 * time.Minute})
	if err == nil && len(jobs) == 1 {
		worker.job, worker.stage = &jobs[0], prepare
	}
	return err
}

// cutting does something during which the worker's connection may be cut.
func (h *history) cutting(rt *rapid.T, worker *worker, do func() error) {
	if rapid.IntRange(0, 2).Draw(rt, "cut") > 0 {
		_ = do()
		return
	}
	at := rapid.IntRange(0, 10).Draw(rt, "statement")
	injection := worker.points.arm(at, rapid.Bool().Draw(rt, "answer lost"))
	_ = do()
	if sql := worker.points.disarm(injection); sql != "" && injection.Count() > 0 {
		h.struck[sql]++
	}
}

// step has a worker look for work, or takes its job one step further. Who lost the claim must change nothing.
func (h *history) step(rt *rapid.T, worker *worker) {
	ctx, cancel := h.ctx()
	defer cancel()
	if worker.job == nil {
		h.cutting(rt, worker, func() error { return h.take(ctx, worker) })
		return
	}
	h.steps[worker.stage]++
	before := h.stored(h.id)
	mine := before.Claim == worker.job.Claim.String()
	h.cutting(rt, worker, func() error {
		err := h.advance(ctx, worker)
		if errors.Is(err, vault.ErrClaimLost) {
			worker.drop()
		}
		return err
	})
	if after := h.stored(h.id); !mine && after != before {
		rt.Fatalf("a worker that had lost the claim changed %+v to %+v", before, after)
	}
}

func (h *history) advance(ctx context.Context, worker *worker) (err error) {
	h.rt.Logf("%v", worker.stage)
	switch worker.stage {
	case prepare:
		var over bool
		if over, err = worker.rotations.Prepare(ctx, worker.job); over && err == nil {
			worker.drop()
			return nil
		}
	case begin:
		worker.delivery.Release()
		worker.delivery, err = worker.rotations.Begin(ctx, worker.job)
		if err == nil && worker.delivery == nil {
			worker.drop()
			return nil
		}
		if err == nil {
			h.learn(worker.delivery)
		}
	case apply:
		err = h.targets.Apply(ctx, worker.delivery)
	case test:
		err = h.targets.Test(ctx, worker.delivery)
	case promote:
		if err = worker.rotations.Promote(ctx, worker.job, worker.delivery); err == nil {
			worker.drop()
			return nil
		}
	}
	switch {
	case err == nil:
		worker.stage++
	case worker.stage == apply || worker.stage == test:
		h.rt.Logf("the target: %v", err)
		worker.stage = begin // another attempt has a generation of its own
	}
	return err
}

// learn notes the plaintext of a version that was handed out.
func (h *history) learn(d *vault.Delivery) {
	for _, v := range h.versions(h.id) {
		if v.Version == d.Version {
			h.known[v.UID] = string(d.New.Value.Reveal())
		}
	}
}

// fail has a worker report a failure.
func (h *history) fail(rt *rapid.T) {
	worker := h.any(rt)
	if worker.job == nil {
		return
	}
	ctx, cancel := h.ctx()
	defer cancel()
	failure := vault.Failure{Class: string(target.Transient), Message: "m"}
	if rapid.IntRange(0, 3).Draw(rt, "policy") == 0 {
		failure = vault.Failure{Class: string(target.Policy), Message: "m", Abandon: true}
	}
	before := h.stored(h.id)
	mine := before.Claim == worker.job.Claim.String()
	h.cutting(rt, worker, func() error { return worker.rotations.Fail(ctx, worker.job, failure) })
	if after := h.stored(h.id); !mine && after != before {
		rt.Fatalf("a worker that had lost the claim changed %+v to %+v", before, after)
	}
	worker.drop()
}

// put changes the value in the vault alone, unless a rotation is under way.
func (h *history) put() {
	ctx, cancel := h.ctx()
	defer cancel()
	h.hands++
	text := fmt.Sprintf("by hand %d", h.hands)
	_, err := h.vault.Process.Vault().Update(ctx, h.caller, vault.UpdateRequest{Name: h.name, Given: vault.Given{Password: sensitive.CopyString(text)}})
	switch {
	case err == nil:
		for _, v := range h.versions(h.id) {
			if v.State == string(secret.Current) {
				h.known[v.UID] = text
			}
		}
		h.byHand = true
	case fault.KindOf(err) != fault.Conflict:
		h.rt.Fatalf("by hand: %v", err)
	}
}

// check holds what must be so at every moment.
func (h *history) check() {
	h.look()
	state := h.stored(h.id)
	held, current, other := false, "", false
	for _, v := range h.versions(h.id) {
		held = held || h.known[v.UID] == h.password
		switch v.State {
		case string(secret.Current):
			current = h.known[v.UID]
		case string(secret.Abandoned):
			other = true
		}
	}
	if !held {
		h.rt.Fatalf("the target has a password that the vault no longer keeps: %+v", h.versions(h.id))
	}
	if current == h.password {
		h.byHand = false
	}
	if !state.Applying && !other && !h.byHand && current != h.password {
		h.rt.Fatalf("no job is under way, and the target doesn't take the current version: %+v", h.versions(h.id))
	}
}

// look finds out which password the target has. It must be one that was handed out, or the first.
func (h *history) look() {
	verifier := h.target.Verifier(h.t, h.role)
	if verifier == h.verifier {
		return
	}
	for _, password := range h.known {
		if targetpg.Matches(h.t, verifier, password) {
			h.verifier, h.password = verifier, password
			return
		}
	}
	h.rt.Fatalf("the target has a password that nobody was handed")
}

// settle does what is left to be done, and looks at what has become of it all.
func (h *history) settle() {
	worker := h.workers[0]
	for _, w := range h.workers {
		w.drop()
	}
	ctx, cancel := h.ctx()
	defer cancel()
	for range 50 {
		h.lapse()
		if h.stored(h.id).Job == "" {
			break
		}
		h.finish(ctx, worker)
	}
	state := h.stored(h.id)
	if state.Job != "" {
		h.rt.Fatalf("a job is stuck: %s", state.Job)
	}
	h.check()
	counts := one[struct{ Rotated, Recorded, Twice int }](h.world, `SELECT
		(SELECT count(*) FROM vault.rotation_jobs WHERE secret_id = $1 AND outcome = 'rotated')::int,
		(SELECT count(*) FROM vault.audit_log WHERE secret_name = $2 AND action = 'secret.rotate' AND outcome = 'ok')::int,
		(SELECT count(*) FROM (SELECT due_at FROM vault.rotation_jobs WHERE secret_id = $1 AND outcome = 'rotated' GROUP BY due_at HAVING count(*) > 1) twice)::int`,
		h.id, h.name)
	if counts.Twice != 0 || counts.Rotated != counts.Recorded || counts.Rotated > h.dues {
		h.rt.Fatalf("%d times due, %d jobs rotated, %d of them again for the same time, %d rotations recorded", h.dues, counts.Rotated, counts.Twice, counts.Recorded)
	}
}
