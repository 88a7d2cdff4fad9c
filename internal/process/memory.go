package process

import (
	"math"
	"os"
	"runtime/debug"
)

// gcPercent is how much the heap of a serving process may grow between collections, in percent of what is alive. A vault
// holds little and makes a lot of garbage at a high rate: at Go's own 100 it would spend a good part of its time collecting a few
// megabytes.
const gcPercent = 300

// TuneMemory sets the pace of garbage collection for a process that serves, unless the environment says otherwise (GOGC,
// GOMEMLIMIT).
func TuneMemory() { TuneMemoryWithin(math.MaxInt64) }

// TuneMemoryWithin is TuneMemory for a process that has more time than memory: as its heap, stacks and what the runtime itself needs come
// near so many bytes, garbage is collected ever sooner. What is alive may take more: collecting then costs up to half of the processor
// time that the process gets, and no more (runtime/debug.SetMemoryLimit).
func TuneMemoryWithin(bytes int64) {
	_, percent := os.LookupEnv("GOGC")
	_, limit := os.LookupEnv("GOMEMLIMIT")
	if !percent && !limit {
		debug.SetGCPercent(gcPercent)
		debug.SetMemoryLimit(bytes)
	}
}
