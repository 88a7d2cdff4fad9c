package load

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/sealkeep/sealkeep/test/bench/stats"
)

// Spec says what load to make.
type Spec struct {
	Address     string // host:port, the host an IP address
	Connections int    // each has one request under way at any time

	// The load lasts Warmup and then Duration, of which only the latter is measured; or, if Requests isn't 0, as long as
	// that many requests take, all of them measured.
	Warmup, Duration time.Duration
	Requests         uint64

	First   uint64 // the number of the first request; the following ones count up
	Request Template
	Status  int        // of every answer
	Expect  []Template // what a body must hold, in this order
	Sample  uint64     // bodies are checked of the requests whose number is a multiple of it; 0 means all

	Portable bool // use the client for all systems also on Linux
}

// Result is what came of it.
type Result struct {
	Answered uint64        // all requests that were answered, as they all had to be
	Next     uint64        // the first number that was not used
	Measured uint64        // the requests that were answered within the measured time
	Elapsed  time.Duration // the measured time
	CPU      time.Duration // processor time that the client itself used in it; 0 if the system doesn't tell

	P50, P90, P99, Max time.Duration // of the measured requests, from before the first byte is sent to the last byte of the answer
}

// Rate is the measured requests per second.
func (r Result) Rate() float64 { return float64(r.Measured) / r.Elapsed.Seconds() }

// silence is how long a server may say nothing on any connection before the load fails.
const silence = 10 * time.Second

// Run makes the load. ctx ends it early, with an error. For the time of the load it takes one processor at most.
func Run(ctx context.Context, s Spec) (Result, error) {
	if s.Connections < 1 || (s.Duration <= 0 && s.Requests == 0) {
		return Result{}, errors.New("a load needs connections, and a duration or a number of requests")
	}
	r := &run{spec: s, next: s.First, first: s.First}
	if s.Requests > 0 {
		r.spec.Warmup = 0
	}
	drive := driveEpoll
	if s.Portable || runtime.GOOS != "linux" {
		drive = drivePortable
	}
	if err := drive(ctx, r); err != nil {
		return Result{}, fmt.Errorf("load on %s with %d connections: %w", s.Address, s.Connections, err)
	}
	return r.result(), nil
}

// run is one load under way. It knows the time in nanoseconds since the load began.
type run struct {
	spec     Spec
	began    time.Time
	first    uint64
	next     uint64 // number of the next request
	answered uint64
	latency  stats.Histogram

	measuring          bool
	measured           uint64
	measureAt, endedAt int64
	cpuAt, cpu         time.Duration
}

func (r *run) clock() int64 { return int64(time.Since(r.began)) }

// begin starts the clock.
func (r *run) begin() {
	r.began = time.Now()
	r.observe(0)
}

// observe moves the phases on; over tells that no further request is to be sent.
func (r *run) observe(now int64) (over bool) {
	if !r.measuring && r.endedAt == 0 && now >= int64(r.spec.Warmup) {
		r.measuring, r.measureAt, r.cpuAt = true, now, processorTime()
	}
	if r.measuring && r.spec.Requests == 0 && now-r.measureAt >= int64(r.spec.Duration) {
		r.stopMeasuring(now)
	}
	if r.spec.Requests > 0 {
		return r.next-r.first >= r.spec.Requests
	}
	return r.endedAt != 0
}

func (r *run) stopMeasuring(now int64) {
	r.measuring, r.endedAt, r.cpu = false, now, processorTime()-r.cpuAt
}

// answer counts an answer that came at now to a request that was sent at sent.
func (r *run) answer(sent, now int64) {
	r.answered++
	if r.measuring {
		r.measured++
		r.latency.Record(uint64(max(now-sent, 0)))
	}
}

// take gives the number of the next request.
func (r *run) take() uint64 {
	n := r.next
	r.next++
	return n
}

func (r *run) result() Result {
	if r.measuring { // a number of requests has no end by time
		r.stopMeasuring(r.clock())
	}
	quantile := func(q float64) time.Duration { return time.Duration(r.latency.Quantile(q)) }
	return Result{
		Answered: r.answered, Next: r.next, Measured: r.measured, Elapsed: time.Duration(r.endedAt - r.measureAt), CPU: r.cpu,
		P50: quantile(0.5), P90: quantile(0.9), P99: quantile(0.99), Max: time.Duration(r.latency.Max()),
	}
}
