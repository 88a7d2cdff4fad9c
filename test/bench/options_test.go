package main

import (
	"errors"
	"flag"
	"io"
	"slices"
	"testing"
	"time"
)

func TestWithoutFlagsEverythingIsMeasured(t *testing.T) {
	t.Parallel()
	o, err := parseOptions(nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(o.servers, allServers) || !slices.Equal(o.workloads, allWorkloads) || !slices.Equal(o.parts, allParts) ||
		!slices.Equal(o.connections, []int{1, 8, 32, 128}) || o.rounds != 3 || o.secrets != 1000 || o.reads != 1_000_000 || o.due != 8000 || o.jobs != 100_000 {
		t.Errorf("%+v", o)
	}
}

func TestChoicesKeepTheirOrderAndAreKnown(t *testing.T) {
	t.Parallel()
	o, err := parseOptions([]string{"-servers", "vault,d", "-conns", "32, 8,32", "-vault-env", "A=1 B=2"}, io.Discard)
	if err != nil || !slices.Equal(o.servers, []string{"d", "vault"}) || !slices.Equal(o.connections, []int{8, 32}) || !slices.Equal(o.vaultEnv, []string{"A=1", "B=2"}) {
		t.Errorf("%+v, %v", o, err)
	}
	for _, wrong := range [][]string{
		{"-servers", "z"},
		{"-servers", ""},
		{"-workloads", "reads"},
		{"-only", "everything"},
		{"-conns", "0"},
		{"-conns", "many"},
		{"-rounds", "0"},
		{"-secrets", "63"},
		{"-secrets", "10000000"},
		{"-time", "0s"},
		{"-auth", "token"},
		{"-reads", "9"},
		{"-due", "0"},
		{"-jobs", "10000000"},
		{"-quiet", "0"},
		{"more"},
	} {
		if o, err := parseOptions(wrong, io.Discard); err == nil {
			t.Errorf("%q: %+v", wrong, o)
		}
	}
	if _, err := parseOptions([]string{"-nothing"}, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Error(err)
	}
}

func TestQuickShortensWhatWasNotGiven(t *testing.T) {
	t.Parallel()
	o, err := parseOptions([]string{"-quick", "-time", "2s"}, io.Discard)
	if err != nil || o.rounds != 1 || o.time != 2*time.Second || o.reads >= 1_000_000 {
		t.Errorf("%+v, %v", o, err)
	}
}
