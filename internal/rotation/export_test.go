package rotation

// What the tests of this package look at.
const (
	LeastPause = leastPause
	MostPause  = mostPause
)

var Backoff = backoff
