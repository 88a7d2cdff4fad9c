package httpapi

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/secret"
	"github.com/sealkeep/sealkeep/internal/vault"
)

const maxCursorBytes = 1024

// parseQuery reads the parameters of a request. Each must be known, given once, and not be empty.
func parseQuery(raw string, known []string) (map[string]string, error) {
	if raw == "" {
		return nil, nil
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the query can't be read: separate parameters by '&' and percent-encode their values")
	}
	got := make(map[string]string, len(values))
	for _, name := range slices.Sorted(maps.Keys(values)) {
		switch {
		case !slices.Contains(known, name) && len(known) == 0:
			return nil, fault.Newf(fault.Invalid, "unknown query parameter%s: this route takes none", shown(name))
		case !slices.Contains(known, name):
			return nil, fault.Newf(fault.Invalid, "unknown query parameter%s: this route takes %s", shown(name), strings.Join(known, ", "))
		case len(values[name]) > 1:
			return nil, fault.Newf(fault.Invalid, "query parameter %s is given more than once", name)
		case values[name][0] == "":
			return nil, fault.Newf(fault.Invalid, "query parameter %s is empty: leave it out, or give it a value", name)
		}
		got[name] = values[name][0]
	}
	return got, nil
}

// maxShownName bounds the names that errors repeat.
const maxShownName = 64

// shown gives a name that a client made up as errors repeat it, quoted and with a space before it, if it looks like
// the name of a field. Anything else might be a piece of a value that was quoted wrongly, and gives nothing.
func shown(name string) string {
	if name == "" || len(name) > maxShownName || strings.IndexFunc(name, notIDRune) >= 0 {
		return ""
	}
	return ` "` + name + `"`
}

// queryInt gives the positive number in a parameter, or 0 if it is absent. How large it may be is the vault's to say.
func queryInt(query map[string]string, name string) (int, error) {
	s, ok := query[name]
	if !ok {
		return 0, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || s[0] == '+' || n < 1 {
		return 0, fault.Newf(fault.Invalid, "query parameter %s must be a whole number from 1", name)
	}
	return n, nil
}

// queryWait gives how long to wait for a job, or 0 if the parameter is absent.
func queryWait(query map[string]string) (time.Duration, error) {
	s, ok := query["wait"]
	if !ok {
		return 0, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || s[0] == '+' || n < 0 || n > maxWait {
		return 0, fault.Newf(fault.Invalid, "query parameter wait must be a whole number of seconds from 0 to %d", maxWait)
	}
	return time.Duration(n) * time.Second, nil
}

// requestKey reads Idempotency-Key. What it looks like is the vault's to say.
func requestKey(h http.Header) (string, error) {
	lines := h[idempotencyKey]
	if len(lines) > 1 || len(lines) == 1 && lines[0] == "" {
		return "", fault.New(fault.Invalid, "Idempotency-Key is given once, and isn't empty")
	}
	return strings.Join(lines, ""), nil
}

// queryTime gives the time in a parameter, or the zero time if it is absent.
func queryTime(query map[string]string, name string) (time.Time, error) {
	s, ok := query[name]
	if !ok {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.Year() < 1970 || t.Year() > 9999 {
		return time.Time{}, fault.Newf(fault.Invalid,
			"query parameter %s must be a time as RFC 3339 has it, such as 2026-01-31T12:00:00Z, with '+' sent as %%2B", name)
	}
	return t.UTC(), nil
}

func listRequest(query map[string]string) (vault.ListRequest, error) {
	limit, err := queryInt(query, "limit")
	if err != nil {
		return vault.ListRequest{}, err
	}
	cursor := query["cursor"]
	if len(cursor) > maxCursorBytes || strings.IndexFunc(cursor, func(r rune) bool { return r <= ' ' || r > '~' }) >= 0 {
		return vault.ListRequest{}, fault.New(fault.Invalid, "query parameter cursor must be the next_cursor of the page before")
	}
	return vault.ListRequest{Prefix: query["prefix"], Limit: limit, Cursor: cursor}, nil
}

func eventsRequest(query map[string]string) (r vault.EventsRequest, err error) {
	if r.Limit, err = queryInt(query, "limit"); err != nil {
		return r, err
	}
	if r.Since, err = queryTime(query, "since"); err != nil {
		return r, err
	}
	if r.Until, err = queryTime(query, "until"); err != nil {
		return r, err
	}
	return r, nil
}

// checkConditions refuses conditions that the route would not honour. A change that was meant to be guarded must not go
// through unguarded; on requests that change nothing an unhonoured If-None-Match is harmless.
func checkConditions(r *http.Request, of *route) error {
	honoured := of.condition
	if honoured != ifMatch && len(r.Header[ifMatch]) > 0 {
		return fault.New(fault.Invalid, "If-Match is only for PUT and DELETE of a secret")
	}
	safe := r.Method == http.MethodGet
	if honoured != ifNoneMatch && !safe && len(r.Header[ifNoneMatch]) > 0 {
		return fault.New(fault.Invalid, "If-None-Match is only for GET of a secret")
	}
	if !of.idempotent && !safe && len(r.Header[idempotencyKey]) > 0 {
		return fault.New(fault.Invalid, "Idempotency-Key is only for creating, rotating and rolling back a secret: what else there is can be sent again without it")
	}
	return nil
}

// precondition reads If-Match. Weak tags stay in it: they match nothing, and a header with nothing else must fail, not
// count as absent.
func precondition(h http.Header) (vault.Precondition, error) {
	lines := h[ifMatch]
	if len(lines) == 0 {
		return vault.Precondition{}, nil
	}
	tags, any, err := secret.ParseETags(strings.Join(lines, ","))
	return vault.Precondition{Any: any, Tags: tags}, err
}

// noneMatch reads If-None-Match, whose comparison is weak: the mark of weak tags is taken off.
func noneMatch(h http.Header) ([]string, error) {
	lines := h[ifNoneMatch]
	if len(lines) == 0 {
		return nil, nil
	}
	tags, any, err := secret.ParseETags(strings.Join(lines, ","))
	if err != nil {
		return nil, err
	}
	if any {
		return []string{"*"}, nil
	}
	for i := range tags {
		tags[i] = strings.TrimPrefix(tags[i], "W/")
	}
	return tags, nil
}
