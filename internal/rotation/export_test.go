package rotation

// What the tests of this package look at.
const (
	FirstPause = firstPause
	MostPause  = mostPause
)

var Backoff = backoff
