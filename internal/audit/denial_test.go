package audit

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/pgtest"
)

func denial(address netip.Addr, request string) Record {
	return Record{Actor: "anonymous", ClientIP: address, Action: "secret.read", Outcome: "denied", RequestID: request}
}

var (
	here  = netip.MustParseAddr("192.0.2.1")
	there = netip.MustParseAddr("192.0.2.2")
)

type countRow struct {
	Address *string
	Detail  []byte
}

// counts gives what the records of counted denials say, by address; "" is none.
func (f *fixture) counts() (counted map[string]int64, records int) {
	f.t.Helper()
	counted = map[string]int64{}
	for _, row := range pgtest.Query[countRow](f.t, f.db, "SELECT host(client_ip), detail FROM vault.audit_log WHERE action = $1", ActionDenialsCounted) {
		var detail struct {
			Count   int64
			Further bool `json:"further_addresses"`
		}
		must(f.t, json.Unmarshal(row.Detail, &detail))
		key := ""
		if row.Address != nil {
			key = *row.Address
		}
		if detail.Further {
			key = "further"
		}
		counted[key] += detail.Count
		records++
	}
	return counted, records
}

func TestDenials_TheEleventhInASecondIsCountedAndNotRecorded(t *testing.T) {
	t.Parallel()
	f := setup(t)
	clock := newHandClock()
	trail := f.beating("denials", func(c *Config) { c.Clock = clock.read })
	for range 25 {
		trail.Deny(t.Context(), denial(here, "flood"))
	}
	trail.Deny(t.Context(), denial(there, "beside it"))
	trail.Deny(t.Context(), denial(netip.Addr{}, "without an address"))
	if got := len(f.where("flood")); got != denialsPerSecond {
		t.Errorf("%d of the flood are recorded", got)
	}
	if len(f.where("beside it")) != 1 || len(f.where("without an address")) != 1 {
		t.Error("a flood of one address costs another its record")
	}
	clock.move(time.Second)
	trail.Deny(t.Context(), denial(here, "flood"))
	if got := len(f.where("flood")); got != denialsPerSecond+1 {
		t.Errorf("%d are recorded after a second", got)
	}

	trail.flushDenials(t.Context())
	trail.flushDenials(t.Context())
	counted, records := f.counts()
	if records != 1 || counted[here.String()] != 15 {
		t.Errorf("%d records count %v", records, counted)
	}
	if all := trail.Stats().DenialsCounted; all != 15 {
		t.Errorf("%d denials are said to have been counted", all)
	}
	f.clean()
}

func TestDenials_AddressesAreBounded(t *testing.T) {
	t.Parallel()
	f := setup(t)
	trail := f.beating("many")
	limit := trail.limit
	address := func(i int) netip.Addr {
		return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 0x0a000000+uint32(i))))
	}
	now := time.Now()
	for i := range 2 * maxDenialAddresses {
		if admitted := limit.admit(address(i), now); admitted != (i < denialsInAll) {
			t.Fatalf("address %d: admitted: %t", i, admitted)
		}
	}
	for i := range 3 * maxDenialAddresses {
		limit.count(address(i))
	}
	if n := len(limit.seen); n > maxDenialAddresses {
		t.Errorf("%d addresses are told apart in a second", n)
	}
	if n := len(limit.counted); n > maxDenialAddresses {
		t.Errorf("%d addresses are counted apart", n)
	}
	all := limit.total()
	trail.flushDenials(t.Context())
	counted, records := f.counts()
	if records != maxDenialAddresses+1 {
		t.Errorf("%d records", records)
	}
	sum := int64(0)
	for _, n := range counted {
		sum += n
	}
	if all != 5*maxDenialAddresses-denialsInAll || sum != all || counted["further"] == 0 {
		t.Errorf("%d were counted, and %d recorded, of them %d of further addresses", all, sum, counted["further"])
	}
	f.clean()
}

func TestDenials_WhatCannotBeRecordedNowIsCountedAndRecordedLater(t *testing.T) {
	t.Parallel()
	f := setup(t)
	trail := f.trail("down")
	for range 3 {
		trail.Deny(t.Context(), denial(here, "down"))
	}
	trail.limit.count(netip.Addr{})
	trail.flushDenials(t.Context()) // in vain
	if _, records := f.counts(); records != 0 || len(f.where("down")) != 0 {
		t.Fatal("the trail isn't down")
	}
	f.runAppender(trail.denials)
	eventually(t, "denials can be recorded", trail.denials.ready.Load)
	trail.flushDenials(t.Context())
	if counted, records := f.counts(); records != 2 || counted[here.String()] != 3 || counted[""] != 1 {
		t.Errorf("%d records count %v", records, counted)
	}
	if all := trail.Stats().DenialsCounted; all != 4 {
		t.Errorf("%d denials are said to have been counted", all)
	}
	f.clean()
}

// The first append of a flush succeeds and the second fails: the counts of each are kept apart, also those without an address.
func TestDenials_AFlushCutInTheMiddleLosesNoCount(t *testing.T) {
	t.Parallel()
	limit := newDenialLimit()
	limit.count(netip.Addr{})
	limit.count(here)
	limit.others = 7
	counts := limit.takeCounts()
	if len(counts) != 3 || limit.total() != 2 {
		t.Fatalf("the counts are %+v", counts)
	}
	limit.putBack(counts[1:])
	again := limit.takeCounts()
	if len(again) != 2 || limit.total() != 2 {
		t.Errorf("of %+v came back %+v", counts[1:], again)
	}
	sum := int64(0)
	for _, c := range append(again, counts[0]) {
		sum += c.n
	}
	if sum != 9 {
		t.Errorf("%d are left of 9", sum)
	}
}

func TestI4_DenialsNeverDelayReads(t *testing.T) {
	t.Parallel()
	f := setup(t)
	trail := f.beating("apart")
	trail.Deny(t.Context(), denial(here, "first"))
	release := f.lockStream(f.streams(kindDenial)[0].ID)
	defer release()
	ctx, cancel := context.WithCancel(t.Context())
	denied := make(chan struct{})
	go func() {
		defer close(denied)
		trail.Deny(ctx, denial(here, "stuck"))
	}()
	f.waitingAppend()
	for _, request := range names("read", 50) {
		must(t, trail.Append(t.Context(), record(request)))
	}
	must(t, trail.Change(t.Context(), addRole("change")))
	cancel()
	<-denied
	release()
	// Given up in the middle, it is counted for sure, and perhaps recorded too.
	eventually(t, "the count is recorded", func() bool {
		trail.flushDenials(t.Context())
		counted, _ := f.counts()
		return counted[here.String()] == 1
	})
	f.clean()
}
