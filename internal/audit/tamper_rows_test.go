package audit

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/pgtest"
)

// stream gives a stream of the crime's, by process and kind, that still has its head where it was.
func (c *crime) stream(process, kind, state string) uuid.UUID {
	c.t.Helper()
	return one[uuid.UUID](c.fixture, "SELECT stream_id FROM vault.audit_streams WHERE process = $1 AND kind = $2 AND state = $3",
		process, kind, state)
}

func (c *crime) headOf(stream uuid.UUID) int64 {
	c.t.Helper()
	return one[int64](c.fixture, "SELECT head_seq FROM vault.audit_streams WHERE stream_id = $1", stream)
}

const (
	// putHead moves a stream's head to its record $2, as if that had been the last one.
	putHead = `UPDATE vault.audit_streams s SET head_seq = l.seq, head_mac = l.mac, head_at = l.at
		FROM vault.audit_log l WHERE s.stream_id = $1 AND l.stream_id = $1 AND l.seq = $2`
	deleteFrom = "DELETE FROM vault.audit_log WHERE stream_id = $1 AND seq >= $2"
	// putCopy adds a copy of record $2 under another number, time and request.
	putCopy = `INSERT INTO vault.audit_log SELECT stream_id, $3, at, actor, client_ip, action, secret_name, version, outcome, $4,
		trace_id, detail, mac, key_id FROM vault.audit_log WHERE stream_id = $1 AND seq = $2`
	swap = `UPDATE vault.audit_log SET seq = $2 + $3 - seq WHERE stream_id = $1 AND seq IN ($2, $3)`
)

func TestI10_RewritingOfRowsIsFound(t *testing.T) {
	t.Parallel()
	c := newCrime(t)
	alpha, beta := c.stream("alpha", kindRead, "open"), c.stream("beta", kindRead, "open")
	changes, denials := c.stream("beta", kindChange, "open"), c.stream("alpha", kindDenial, "open")
	closed, offline := c.stream("alpha", kindRead, "closed"), c.stream("command", kindOffline, "closed")
	idle := c.stream("idle", kindDenial, "open")
	end := c.headOf(beta)
	opening := func(stream uuid.UUID) []byte { // what head_mac was before the first record
		t.Helper()
		streams, err := c.api.Streams(t.Context())
		must(t, err)
		for i := range streams {
			if streams[i].StreamID == stream {
				key, err := c.keys.StreamKey(streams[i].KeyID, stream)
				must(t, err)
				defer key.Release()
				mac := (&verifier{vaultID: c.vaultID}).opening(key, &streams[i])
				return mac[:]
			}
		}
		t.Fatalf("no stream %s", stream)
		return nil
	}

	type step struct {
		sql  string
		args []any
	}
	run := func(sql string, args ...any) step { return step{sql, args} }
	at := func(stream uuid.UUID, seqs ...int64) location { return location{stream, append(seqs, 0)[0]} }
	const first, middle = int64(1), int64(3)
	for _, crime := range []struct {
		what  string
		named location // the record that is named, or the stream alone for 0
		steps []step
	}{
		{"deleting the first record", at(beta, first), []step{run("DELETE FROM vault.audit_log WHERE stream_id = $1 AND seq = $2", beta, first)}},
		{"deleting a record in the middle", at(beta, middle), []step{run("DELETE FROM vault.audit_log WHERE stream_id = $1 AND seq = $2", beta, middle)}},
		{"deleting the last record", at(beta, end), []step{run("DELETE FROM vault.audit_log WHERE stream_id = $1 AND seq = $2", beta, end)}},
		{"deleting a record and closing the gap", at(beta, middle), []step{
			run("DELETE FROM vault.audit_log WHERE stream_id = $1 AND seq = $2", beta, middle),
			run("UPDATE vault.audit_log SET seq = seq - 1 WHERE stream_id = $1 AND seq > $2", beta, middle),
			run("UPDATE vault.audit_streams SET head_seq = head_seq - 1 WHERE stream_id = $1", beta),
		}},
		{"cutting off the tail and moving the head back", at(changes, 3), []step{
			run(putHead, changes, int64(2)), run(deleteFrom, changes, int64(3)),
		}},
		{"cutting off all of a stream and moving the head back to its opening", at(changes, 3), []step{
			run("UPDATE vault.audit_streams SET head_seq = 0, head_at = opened_at, head_mac = $2 WHERE stream_id = $1", changes, opening(changes)),
			run("DELETE FROM vault.audit_log WHERE stream_id = $1", changes),
		}},
		{"cutting off a closed stream's tail and opening it again", at(closed), []step{
			run(putHead, closed, int64(2)), run(deleteFrom, closed, int64(3)),
			run("UPDATE vault.audit_streams SET state = 'open' WHERE stream_id = $1", closed),
		}},
		{"deleting a stream's records", at(denials, 1), []step{run("DELETE FROM vault.audit_log WHERE stream_id = $1", denials)}},
		{"deleting a stream and leaving its records", at(denials), []step{run("DELETE FROM vault.audit_streams WHERE stream_id = $1", denials)}},
		{"deleting a stream with its records", at(denials), []step{
			run("DELETE FROM vault.audit_streams WHERE stream_id = $1", denials), run("DELETE FROM vault.audit_log WHERE stream_id = $1", denials),
		}},
		{"deleting a stream on which nothing was written", at(idle), []step{run("DELETE FROM vault.audit_streams WHERE stream_id = $1", idle)}},
		{"deleting a closed stream that another took over from", at(closed), []step{
			run("DELETE FROM vault.audit_streams WHERE stream_id = $1", closed), run("DELETE FROM vault.audit_log WHERE stream_id = $1", closed),
		}},
		{"deleting everything of a process", at(alpha), []step{
			run("DELETE FROM vault.audit_log WHERE stream_id IN (SELECT stream_id FROM vault.audit_streams WHERE process = 'alpha')"),
			run("DELETE FROM vault.audit_streams WHERE process = 'alpha'"),
		}},
		{"deleting everything", at(uuid.Nil), []step{run("DELETE FROM vault.audit_log"), run("DELETE FROM vault.audit_streams")}},
		{"inserting a forged record at the end", at(beta, end+1), []step{
			run(putCopy, beta, end, end+1, "forged"), run(putHead, beta, end+1),
		}},
		{"inserting a forged record in the middle", at(beta, middle), []step{
			run("UPDATE vault.audit_log SET seq = seq + 1 WHERE stream_id = $1 AND seq >= $2", beta, middle),
			run(putCopy, beta, first, middle, "forged"),
			run("UPDATE vault.audit_streams SET head_seq = head_seq + 1 WHERE stream_id = $1", beta),
		}},
		{"inserting a forged record behind a stream's closing", at(offline, 4), []step{
			run(putCopy, offline, int64(3), int64(4), "forged"), run(putHead, offline, int64(4)),
		}},
		{"putting a forged record in the place of one", at(beta, middle), []step{
			run(putCopy, beta, middle, middle, "forged"),
			run("DELETE FROM vault.audit_log WHERE stream_id = $1 AND seq = $2 AND request_id <> 'forged'", beta, middle),
		}},
		{"repeating a record", at(beta, middle), []step{run(putCopy, beta, middle, middle, "full-beta-1")}},
		{"repeating a record under another time", at(beta, middle), []step{
			run(putCopy, beta, middle, middle, "again"),
			run("UPDATE vault.audit_log SET at = at + interval '1 second' WHERE stream_id = $1 AND request_id = 'again'", beta),
		}},
		{"repeating the last record under another time", at(beta, end), []step{
			run(putCopy, beta, end, end, "again"),
			run("UPDATE vault.audit_log SET at = at + interval '1 day' WHERE stream_id = $1 AND request_id = 'again'", beta),
		}},
		{"swapping two neighbours", at(beta, middle), []step{run(swap, beta, middle, middle+1)}},
		{"swapping the first and the last", at(beta, first), []step{run(swap, beta, first, end)}},
		{"swapping what two records say", at(beta, first), []step{run(`UPDATE vault.audit_log l SET actor = o.actor, client_ip = o.client_ip,
			secret_name = o.secret_name, version = o.version, outcome = o.outcome, request_id = o.request_id, trace_id = o.trace_id,
			detail = o.detail FROM vault.audit_log o WHERE l.stream_id = $1 AND o.stream_id = $1 AND (l.seq, o.seq) IN ((1, 2), (2, 1))`, beta)}},
		{"turning a stream around", at(beta, first), []step{
			run("UPDATE vault.audit_log SET seq = $2 - seq WHERE stream_id = $1", beta, end+1), run(putHead, beta, end),
		}},
		{"moving a record to another stream's end", at(changes, 4), []step{
			run("UPDATE vault.audit_log SET stream_id = $3, seq = 4 WHERE stream_id = $1 AND seq = $2", beta, end, changes), run(putHead, changes, int64(4)),
		}},
		{"moving a record to another stream's end, and the head it leaves back", at(changes, 3), []step{
			run("UPDATE vault.audit_log SET stream_id = $2, seq = $3 WHERE stream_id = $1 AND seq = 3", changes, beta, end+1), run(putHead, changes, int64(2)),
		}},
		{"exchanging the records of two streams", at(alpha, first), []step{
			run(`UPDATE vault.audit_log SET stream_id = CASE stream_id WHEN $1 THEN $2 ELSE $1 END WHERE stream_id IN ($1, $2)`, alpha, beta),
		}},
		{"exchanging two streams", at(beta, first), []step{
			run(`UPDATE vault.audit_log SET stream_id = CASE stream_id WHEN $1 THEN $2 ELSE $1 END WHERE stream_id IN ($1, $2)`, alpha, beta),
			run(`UPDATE vault.audit_streams SET stream_id = CASE stream_id WHEN $1 THEN $2 ELSE $1 END WHERE stream_id IN ($1, $2)`, alpha, beta),
		}},
		{"copying a stream under another name", at(uuid.Max, first), []step{
			run(`INSERT INTO vault.audit_log SELECT $2, seq, at, actor, client_ip, action, secret_name, version, outcome, request_id,
				trace_id, detail, mac, key_id FROM vault.audit_log WHERE stream_id = $1`, beta, uuid.Max),
			run(`INSERT INTO vault.audit_streams SELECT $2, process, kind, opened_at, state, head_seq, head_mac, head_at, closed_at, system_id, timeline,
				predecessor, predecessor_seq, predecessor_mac, key_id FROM vault.audit_streams WHERE stream_id = $1`, beta, uuid.Max),
		}},
		{"inventing a stream on which nothing was written", at(uuid.Max), []step{
			run(`INSERT INTO vault.audit_streams SELECT $2, process, kind, opened_at, state, head_seq, head_mac, head_at, closed_at, system_id, timeline,
				predecessor, predecessor_seq, predecessor_mac, key_id FROM vault.audit_streams WHERE stream_id = $1`, idle, uuid.Max),
		}},
		{"inventing a record of no stream", at(uuid.Max), []step{
			run(putCopy, beta, first, first, "invented"),
			run("UPDATE vault.audit_log SET stream_id = $1 WHERE request_id = 'invented'", uuid.Max),
		}},
		{"having a stream twice", at(beta), []step{run("INSERT INTO vault.audit_streams SELECT * FROM vault.audit_streams WHERE stream_id = $1", beta)}},
		{"closing an open stream", at(beta, end), []step{run("UPDATE vault.audit_streams SET state = 'closed' WHERE stream_id = $1", beta)}},
		{"opening a closed stream", at(offline, 3), []step{run("UPDATE vault.audit_streams SET state = 'open' WHERE stream_id = $1", offline)}},
		{"passing a record off as a closing", at(beta, end), []step{
			run("UPDATE vault.audit_streams SET state = 'closed' WHERE stream_id = $1", beta),
			run("UPDATE vault.audit_log SET action = 'audit.stream_closed' WHERE stream_id = $1 AND seq = $2", beta, end),
		}},
		{"moving the head on", at(beta, end+1), []step{run("UPDATE vault.audit_streams SET head_seq = head_seq + 1 WHERE stream_id = $1", beta)}},
	} {
		for _, s := range crime.steps {
			c.db.Exec(t, s.sql, s.args...)
		}
		if !c.commit("SELECT") {
			t.Errorf("%s changed nothing", crime.what)
		}
		var seqs []int64
		if crime.named.Seq > 0 {
			seqs = append(seqs, crime.named.Seq)
		}
		what, found := c.found([]uuid.UUID{crime.named.Stream}, seqs...)
		if !found {
			t.Errorf("%s of %s/%d is not found: %s", crime.what, crime.named.Stream, crime.named.Seq, what)
		} else {
			t.Logf("%s: record %s", crime.what, what)
		}
		c.undo()
	}
	c.clean()
}

// Even who has the keys can't go on behind a closing record: a process that did, by a mistake, would be named.
func TestI10_NothingFollowsAClosingRecord(t *testing.T) {
	t.Parallel()
	c := &crime{fixture: setup(t)}
	stop(t, c.started("closed"))
	s := c.streams(kindRead)[0]
	key, err := c.keys.StreamKey(c.keyID(), s.ID)
	must(t, err)
	l := &lane{id: s.ID, kind: kindRead, keyID: c.keyID(), key: key}
	defer l.release()
	l.head = head{seq: s.HeadSeq, at: one[time.Time](c.fixture, "SELECT clock_timestamp()")}
	copy(l.head.mac[:], one[[]byte](c.fixture, "SELECT head_mac FROM vault.audit_streams WHERE stream_id = $1", s.ID))
	request, _ := l.appendAt(l.head.at, []Record{record("behind")})
	c.db.Exec(t, "UPDATE vault.audit_streams SET state = 'open', closed_at = NULL WHERE stream_id = $1", s.ID)
	tx, err := c.api.Begin(t.Context())
	must(t, err)
	_, err = tx.Append(t.Context(), request)
	must(t, err)
	_, err = tx.Commit(t.Context())
	must(t, err)
	if what, found := c.found([]uuid.UUID{s.ID}, s.HeadSeq+1); !found {
		t.Errorf("a record behind the closing one is not found: %s", what)
	}
}

// What is read in batches is held together over their bounds.
func TestI10_TheBoundsOfVerificationsBatchesHideNothing(t *testing.T) {
	t.Parallel()
	c := &crime{fixture: setup(t)}
	trail := c.beating("long")
	records := make([]Record, maxRoundRecords)
	for i := range records {
		records[i] = record(fmt.Sprintf("long-%d", i))
	}
	must(t, trail.Append(t.Context(), records...))
	progress := []int64{}
	report, err := Verify(t.Context(), c.api, c.keys, c.vaultID, func(n int64) { progress = append(progress, n) })
	must(t, err)
	if report.Records != maxRoundRecords || len(report.Problems) != 0 || len(progress) < 3 || progress[len(progress)-1] != maxRoundRecords {
		t.Errorf("the report is %+v, progress %v", report, progress)
	}
	c.clean()
	stream := c.streams(kindRead)[0].ID
	c.db.Exec(t, "ALTER TABLE vault.audit_log DISABLE TRIGGER ALL")
	c.db.Exec(t, strings.ReplaceAll(putCopy, "at,", "at + interval '1 second',"), stream, verifyBatch, verifyBatch, "again")
	if what, found := c.found([]uuid.UUID{stream}); !found {
		t.Errorf("a record twice at the bound of a batch is not found: %s", what)
	}
	c.db.Exec(t, "DELETE FROM vault.audit_log WHERE request_id = 'again'")
	c.clean()
	c.db.Exec(t, "DELETE FROM vault.audit_log WHERE seq = $1", verifyBatch+1)
	if what, found := c.found([]uuid.UUID{stream}, verifyBatch+1); !found {
		t.Errorf("a record missing at the bound of a batch is not found: %s", what)
	}
}

func TestI10_VerifyingWhileEverythingMovesIsClean(t *testing.T) {
	t.Parallel()
	f := setup(t)
	trails := []*Trail{f.started("one"), f.started("two")}
	ctx, cancel := context.WithCancel(t.Context())
	var beats sync.WaitGroup
	loads := []*load{}
	for _, trail := range trails {
		loads = append(loads, f.load(trail, 2))
		beats.Go(func() { // far more often than once a second
			var last pulse
			for sleep(ctx, 5*time.Millisecond) {
				trail.beat(context.Background(), &last)
			}
		})
	}
	streams := int64(0)
	for range 10 {
		report := f.clean()
		streams = max(streams, report.Streams)
		// Lanes come and go.
		open := pgtest.Query[uuid.UUID](t, f.db, "SELECT stream_id FROM vault.audit_streams WHERE state = 'open' ORDER BY random() LIMIT 1")
		f.reap(open[0])
	}
	cancel()
	beats.Wait()
	for _, l := range loads {
		l.stop()
		if l.acknowledged() == 0 {
			t.Errorf("nothing was appended meanwhile; the last refusal is %v", l.last)
		}
	}
	if streams < 6 {
		t.Errorf("verification saw %d streams", streams)
	}
}
