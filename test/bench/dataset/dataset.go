// Package dataset names what the benchmarks store: the secrets' names and values, and the requests for them.
//
// Invariants:
//   - A value follows from its secret's number, so that any answer can be checked.
//   - Every server is asked the same: the requests for one workload differ in nothing but the address.
package dataset

import (
	"fmt"
	"strings"

	"github.com/sealkeep/sealkeep/test/bench/load"
)

// The folders of names. Names are a folder and a number of seven digits.
const (
	Hot     = "bench/db/"  // read, cyclically
	Changed = "bench/upd/" // updated
	Fresh   = "bench/new/" // created while it is measured
	Wide    = "bench/app/" // read in an order that looks random
	Rotated = "bench/rot/" // rotated as often as rotators come to them
)

// IntervalSecs is how soon a secret of Rotated is due again. It is the least that there is, so that enough of them are always due.
const IntervalSecs = 1

// GraceSecs is how long a version of it stays valid: longer than any run, in which none is purged therefore.
const GraceSecs = 86_400

const (
	nameDigits  = 7
	valueDigits = 12
	valueBytes  = 100
)

var valueTail = "-" + strings.Repeat("Correct7Horse-Battery_Staple.", 4)[:valueBytes-valueDigits-1]

// Name is the name of secret i of a folder.
func Name(folder string, i int) string { return fmt.Sprintf("%s%0*d", folder, nameDigits, i) }

// Value is the value of secret i, of any folder.
func Value(i int) string { return fmt.Sprintf("%0*d%s", valueDigits, i, valueTail) }

func name(folder string, by load.Slot) load.Template {
	return load.Text(folder).Number(nameDigits, by)
}

func value(by load.Slot) load.Template {
	return load.Text("").Number(valueDigits, by).Add(valueTail)
}

// Workload is one kind of request, and what a right answer looks like.
type Workload struct {
	Method, Verb string
	Path, Body   load.Template
	Status       int
	Expect       []load.Template
	Sample       uint64 // of the bodies
	PerRequest   uint64 // secrets that one request reads or writes, each with its record
}

// Spec makes the load of this workload. headers are whole lines with their ends.
func (w Workload) Spec(address, headers string) load.Spec {
	return load.Spec{
		Address: address,
		Request: load.Request(w.Method, w.Path, address, headers, w.Body),
		Status:  w.Status,
		Expect:  w.Expect,
		Sample:  w.Sample,
	}
}

func cycle(n int) load.Slot { return load.Slot{Times: 1, Modulo: uint64(n)} }

// Read reads the first n secrets of a folder, one after the other.
func Read(folder string, n int) Workload { return read(folder, cycle(n)) }

// ReadScattered reads them in an order that looks random.
func ReadScattered(folder string, n int) Workload {
	by := cycle(n)
	by.Scatter = true
	return read(folder, by)
}

func read(folder string, by load.Slot) Workload {
	return Workload{
		Method: "GET", Path: load.Text("/v1/secrets/").Join(name(folder, by)), Status: 200, PerRequest: 1, Sample: 61,
		Expect: []load.Template{
			load.Text(`"name":"`).Join(name(folder, by)).Add(`"`),
			load.Text(`"value":"`).Join(value(by)).Add(`"`),
		},
	}
}

// Batch reads size secrets with each request.
func Batch(folder string, n, size int) Workload {
	w := Workload{
		Method: "POST", Path: load.Text("/v1/batch/secrets"), Status: 200,
		PerRequest: uint64(size), Sample: 61, Body: load.Text(`{"names":[`),
	}
	for i := range size {
		by := cycle(n)
		by.Times, by.Plus = uint64(size), uint64(i)
		if i > 0 {
			w.Body = w.Body.Add(",")
		}
		w.Body = w.Body.Add(`"`).Join(name(folder, by)).Add(`"`)
		w.Expect = append(w.Expect, load.Text(`"name":"`).Join(name(folder, by)).Add(`"`), load.Text(`"value":"`).Join(value(by)).Add(`"`))
	}
	w.Body = w.Body.Add("]}")
	return w
}

// Verify compares the first n secrets of a folder with their values.
func Verify(folder string, n int) Workload {
	by := cycle(n)
	return Workload{
		Method: "POST", Path: load.Text("/v1/secrets/").Join(name(folder, by)).Add("/verify"), Status: 200, PerRequest: 1, Sample: 1,
		Body:   load.Text(`{"value":"`).Join(value(by)).Add(`"}`),
		Expect: []load.Template{load.Text(`"valid":true`)},
	}
}

// Create makes a new secret with each request.
func Create(folder string) Workload {
	by := load.Slot{Times: 1}
	return Workload{
		Method: "POST", Path: load.Text("/v1/secrets"), Status: 201, PerRequest: 1, Sample: 61,
		Body:   load.Text(`{"name":"`).Join(name(folder, by)).Add(`","kind":"manual","value":"`).Join(value(by)).Add(`"}`),
		Expect: []load.Template{load.Text(`"name":"`).Join(name(folder, by)).Add(`"`)},
	}
}

// Automatic makes secrets that are due as soon as they may be, again and again.
func Automatic(folder string) Workload {
	by := load.Slot{Times: 1}
	return Workload{
		Method: "POST", Path: load.Text("/v1/secrets"), Status: 201, PerRequest: 1, Sample: 61,
		Body:   load.Text(`{"name":"`).Join(name(folder, by)).Add(fmt.Sprintf(`","kind":"automatic","rotation_interval_secs":%d,"grace_period_secs":%d}`, IntervalSecs, GraceSecs)),
		Expect: []load.Template{load.Text(`"name":"`).Join(name(folder, by)).Add(`"`)},
	}
}

// Update gives each of the first n secrets of a folder a new value in turn.
func Update(folder string, n int) Workload {
	by := cycle(n)
	return Workload{
		Method: "PUT", Path: load.Text("/v1/secrets/").Join(name(folder, by)), Status: 200, PerRequest: 1, Sample: 61,
		Body:   load.Text(`{"value":"`).Join(value(load.Slot{Times: 1})).Add(`"}`),
		Expect: []load.Template{load.Text(`"name":"`).Join(name(folder, by)).Add(`"`)},
	}
}
