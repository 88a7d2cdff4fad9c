package audit

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

const (
	// denialsPerSecond is how many denials of one address are recorded one by one in a second.
	denialsPerSecond = 10
	// denialsInAll is how many denials are recorded one by one in a second, whoever they come from.
	denialsInAll = 200
	// maxDenialAddresses bounds the addresses told apart within one second; the rest share one count.
	maxDenialAddresses = 4096
)

// Deny records a denial on the denials' own stream. It waits for the commit, but a denial that can't be recorded now is only
// counted: refusing needs no evidence to be safe, and the count is recorded as soon as that is possible.
func (t *Trail) Deny(ctx context.Context, r Record) {
	t.activity.Add(1)
	if !t.limit.admit(r.ClientIP, t.cfg.Clock()) {
		t.metrics.counted.Inc()
		return
	}
	if err := t.denials.append(ctx, t.cfg.Timeout, []Record{r}); err != nil {
		t.limit.count(r.ClientIP)
		t.metrics.counted.Inc()
		t.log.WarnContext(ctx, "a denial could not be recorded and was counted", "action", r.Action, "error", err)
	}
}

// denialLimit lets the first denials of an address in each second through, and of all addresses, and counts the others.
type denialLimit struct {
	mu      sync.Mutex
	second  int64
	seen    map[netip.Addr]int
	single  int // recorded one by one in this second
	counted map[netip.Addr]int64
	others  int64 // of addresses beyond the bound
	all     int64 // that were ever counted
}

// denialCount says how many denials of an address were counted; of all further ones, if others is set.
type denialCount struct {
	address netip.Addr
	others  bool
	n       int64
}

func newDenialLimit() *denialLimit {
	return &denialLimit{seen: map[netip.Addr]int{}, counted: map[netip.Addr]int64{}}
}

// admit tells whether a denial of this address is to be recorded by itself; if not, it has been counted.
func (d *denialLimit) admit(address netip.Addr, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if second := now.Unix(); second != d.second {
		d.second = second
		d.single = 0
		clear(d.seen)
	}
	n, known := d.seen[address]
	if d.single < denialsInAll && (known || len(d.seen) < maxDenialAddresses) && n < denialsPerSecond {
		d.single++
		d.seen[address] = n + 1
		return true
	}
	d.all++
	d.add(address, 1)
	return false
}

func (d *denialLimit) count(address netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all++
	d.add(address, 1)
}

func (d *denialLimit) add(address netip.Addr, n int64) {
	if _, known := d.counted[address]; known || len(d.counted) < maxDenialAddresses {
		d.counted[address] += n
		return
	}
	d.others += n
}

func (d *denialLimit) total() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.all
}

// takeCounts empties the counts.
func (d *denialLimit) takeCounts() []denialCount {
	d.mu.Lock()
	defer d.mu.Unlock()
	counts := make([]denialCount, 0, len(d.counted)+1)
	for address, n := range d.counted {
		counts = append(counts, denialCount{address: address, n: n})
	}
	if d.others > 0 {
		counts = append(counts, denialCount{others: true, n: d.others})
	}
	clear(d.counted)
	d.others = 0
	return counts
}

func (d *denialLimit) putBack(counts []denialCount) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range counts {
		if c.others {
			d.others += c.n
		} else {
			d.add(c.address, c.n)
		}
	}
}

// countDenials records, once a second, how many denials were not recorded one by one.
func (t *Trail) countDenials(ctx context.Context) {
	for sleep(ctx, time.Second) {
		t.flushDenials(ctx)
	}
}

// flushDenials records the counts. What can't be recorded now stays counted.
func (t *Trail) flushDenials(ctx context.Context) {
	counts := t.limit.takeCounts()
	// One append takes a bounded number of records; the bound on addresses keeps this to two.
	for len(counts) > 0 {
		n := min(len(counts), maxRoundRecords)
		if err := t.denials.append(ctx, t.cfg.Timeout, t.countRecords(counts[:n])); err != nil {
			t.limit.putBack(counts)
			return
		}
		counts = counts[n:]
	}
}

func (t *Trail) countRecords(counts []denialCount) []Record {
	records := make([]Record, len(counts))
	for i, c := range counts {
		detail := fmt.Sprintf(`{"count":%d}`, c.n)
		if c.others {
			detail = fmt.Sprintf(`{"count":%d,"further_addresses":true}`, c.n)
		}
		records[i] = Record{
			Actor: t.Actor(), ClientIP: c.address, Action: ActionDenialsCounted, Outcome: "denied",
			RequestID: "-", Detail: []byte(detail),
		}
	}
	return records
}
