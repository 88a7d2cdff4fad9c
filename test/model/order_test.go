package model

import (
	"cmp"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// event is something that happened to an object, or that somebody was told of it, at one instant between begin and end.
type event struct {
	object string // a secret's name, a token or a role
	begin  time.Duration
	end    time.Duration // never, if it may still come
	act    act
	got    result

	version   int64
	also      int64 // a second version, of an edit
	value     string
	generated bool // by the vault, so that nobody may have known the value before
	grace     int  // the phase that the superseded version is in then, or the grace that passes
	by        string
}

const never = time.Duration(math.MaxInt64)

func (e *event) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%10.3f to %10.3f ms  %-12s %s: %s", ms(e.begin), ms(e.end), e.by, e.act, e.got)
	if e.version != 0 {
		fmt.Fprintf(&b, ", version %d", e.version)
	}
	if e.value != "" {
		fmt.Fprintf(&b, ", %q", e.value)
	}
	return b.String()
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// changes tells whether the event makes another state, rather than telling of one.
func (e *event) changes() bool {
	switch e.act {
	case actRead, actVersion, actVerify, actAsk:
		return false
	default:
		return e.got == done
	}
}

// secrets is the model of a secret's name, permissions that of a token or a role: either it grants, or it doesn't.
var (
	secrets = porcupine.Model{
		Init:  func() any { return state{} },
		Equal: func(a, b any) bool { return a.(state).equal(b.(state)) },
		Step: func(s, e, _ any) (bool, any) {
			next, ok := s.(state).next(e.(*event))
			return ok, next
		},
	}
	permissions = porcupine.Model{
		Init: func() any { return false },
		Step: func(s, e, _ any) (bool, any) {
			switch on, e := s.(bool), e.(*event); e.act {
			case actOn:
				return true, true
			case actOff:
				return true, false
			default:
				return on == (e.got == allowed), on
			}
		},
	}
)

// undecided bounds the search for one object's order.
const undecided = 2 * time.Minute

// inOrder tells whether the events of one object have an order that explains them.
func inOrder(model porcupine.Model, events []*event) porcupine.CheckResult {
	history := make([]porcupine.Operation, len(events))
	for i, e := range events {
		history[i] = porcupine.Operation{Input: e, Call: int64(e.begin), Return: int64(e.end)}
	}
	return porcupine.CheckOperationsTimeout(model, history, undecided)
}

// unexplained finds the first answer that has no explanation: up to the one before it there is an order, and with it there is
// none. It returns nil if there is an order of all.
func unexplained(model porcupine.Model, events []*event) (first *event, result porcupine.CheckResult) {
	if result = inOrder(model, events); result == porcupine.Ok {
		return nil, result
	}
	byEnd := slices.Clone(events)
	slices.SortStableFunc(byEnd, func(a, b *event) int { return cmp.Compare(a.end, b.end) })
	n := search(len(byEnd), func(n int) bool { return inOrder(model, until(events, byEnd[n].end)) != porcupine.Ok })
	return byEnd[min(n, len(byEnd)-1)], result
}

// search is the smallest n for which found holds, given that it then holds for all above.
func search(limit int, found func(int) bool) int {
	low, high := 0, limit
	for low < high {
		if middle := (low + high) / 2; found(middle) {
			high = middle
		} else {
			low = middle + 1
		}
	}
	return low
}

// until is what was known at one time: answers that had come, and changes that had begun.
func until(events []*event, at time.Duration) []*event {
	var known []*event
	for _, e := range events {
		switch {
		case e.end <= at:
			known = append(known, e)
		case e.changes() && e.begin <= at:
			open := *e
			open.end = never
			known = append(known, &open)
		}
	}
	return known
}

// disorder says what is wrong with the events of one object; "" if nothing is.
func disorder(model porcupine.Model, object string, events []*event) string {
	first, result := unexplained(model, events)
	switch {
	case first == nil:
		return ""
	case result == porcupine.Unknown:
		return fmt.Sprintf("%s: no order of its %d events was found in %v, and none was ruled out", object, len(events), undecided)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: of what was known when this answer had come, no order explains all; without it one does:\n  %v\nBefore, and at the time:", object, first)
	for _, e := range nearby(events, first) {
		fmt.Fprintf(&b, "\n  %v", e)
	}
	return b.String()
}

// nearby is what a reader needs to see why an answer is wrong: the last changes, and the answers around it.
func nearby(events []*event, first *event) []*event {
	sorted := slices.Clone(events)
	slices.SortStableFunc(sorted, func(a, b *event) int { return cmp.Compare(b.begin, a.begin) }) // the last first
	var near []*event
	changes, answers := 0, 0
	for _, e := range sorted {
		switch {
		case e.begin > first.end:
		case e.changes() && changes < 8:
			changes++
			near = append(near, e)
		case !e.changes() && (e.end >= first.begin || answers < 8):
			answers++
			near = append(near, e)
		}
	}
	slices.Reverse(near)
	return near
}

// modelOf says which model an object follows.
func modelOf(object string) porcupine.Model {
	if strings.HasPrefix(object, tokenObject) || strings.HasPrefix(object, roleObject) {
		return permissions
	}
	return secrets
}

// checkOrder holds what happened against the models.
func (r *run) checkOrder(events []*event) {
	r.t.Helper()
	problems := disorders(events)
	for _, problem := range problems[:min(len(problems), 4)] {
		r.t.Error(problem)
	}
	if len(problems) > 4 {
		r.t.Errorf("and so it is with %d more names, tokens and roles", len(problems)-4)
	}
}

func disorders(events []*event) []string {
	byObject := map[string][]*event{}
	for _, e := range events {
		byObject[e.object] = append(byObject[e.object], e)
	}
	var (
		mu       sync.Mutex
		problems []string
		checks   sync.WaitGroup
	)
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	for object, of := range byObject {
		checks.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if problem := disorder(modelOf(object), object, of); problem != "" {
				mu.Lock()
				defer mu.Unlock()
				problems = append(problems, problem)
			}
		})
	}
	checks.Wait()
	slices.Sort(problems)
	return problems
}
