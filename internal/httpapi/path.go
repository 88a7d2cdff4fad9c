package httpapi

import (
	"net/url"
	"slices"
	"strings"

	"github.com/sealkeep/sealkeep/internal/fault"
	"github.com/sealkeep/sealkeep/internal/secret"
)

const (
	secretsPrefix = "/v1/secrets/"
	jobsPrefix    = "/v1/jobs/"
)

// The verbs: last segments of a path that name an operation on the secret before them. No name ends in one.
const (
	verbItself   = ""
	verbRotate   = "rotate"
	verbVerify   = "verify"
	verbVersions = "versions"
	verbJobs     = "jobs"
	verbRollback = "rollback"
	verbPause    = "pause"
	verbResume   = "resume"
)

var (
	verbs    = []string{verbRotate, verbVerify, verbVersions, verbJobs, verbRollback, verbPause, verbResume}
	reserved = secret.ReservedSegments()
)

var (
	errBadEscape     = fault.New(fault.Invalid, "the path has a '%' that two hexadecimal digits don't follow")
	errUntidyPath    = fault.New(fault.Invalid, "paths have no empty, '.' or '..' segments and don't end in '/'")
	errUnknownRoute  = fault.New(fault.NotFound, "there is no such route").WithCode("unknown_route")
	errUnknownAction = fault.New(fault.NotFound, "there is no such operation on secrets").WithCode("unknown_route")
)

// rawPath gives the path of a request as it was sent, which is also what gin matched. URL.EscapedPath alone would encode
// a path with characters that should have been escaped, such as '"', anew, and lose which of its slashes were escaped.
func rawPath(u *url.URL) string {
	if u.RawPath != "" {
		return u.RawPath
	}
	return u.EscapedPath()
}

// secretPath takes apart a path below /v1/secrets/, as splitPath does.
func secretPath(u *url.URL) (name secret.Name, verb string, err error) {
	if u.RawPath == "" { // then u.Path is what decoding the path as it was sent gives
		return splitDecoded(strings.TrimPrefix(u.Path, secretsPrefix))
	}
	return splitPath(strings.TrimPrefix(u.RawPath, secretsPrefix))
}

// splitPath takes apart what follows /v1/secrets/ in a path as it was sent, percent-encoded. Every escape is decoded,
// once, before anything is looked at, so that "%2F" is a slash and "rot%61te" is rotate: two spellings of a path can't
// mean two things.
//
// Errors are of kind Invalid where no name is named, and NotFound for a verb that is reserved and doesn't exist. They
// never repeat the path.
func splitPath(raw string) (name secret.Name, verb string, err error) {
	path, err := url.PathUnescape(raw)
	if err != nil {
		return "", "", errBadEscape
	}
	return splitDecoded(path)
}

func splitDecoded(path string) (name secret.Name, verb string, err error) {
	if before, last, below := cutLast(path); below && slices.Contains(reserved, last) {
		if name, err = secret.ParseName(before); err != nil {
			return "", "", err
		}
		if !slices.Contains(verbs, last) {
			return "", "", errUnknownAction
		}
		return name, last, nil
	}
	name, err = secret.ParseName(path)
	return name, verbItself, err
}

// cutLast cuts off the last segment; below tells whether there is one before it.
func cutLast(path string) (before, last string, below bool) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", path, false
	}
	return path[:i], path[i+1:], true
}

// checkPath tells, of a path that no route matched, whether it could be one at all.
func checkPath(raw string) error {
	path, err := url.PathUnescape(raw)
	if err != nil {
		return errBadEscape
	}
	if path == "/" {
		return errUnknownRoute
	}
	if strings.IndexByte(path, 0) >= 0 {
		return fault.New(fault.Invalid, "paths have no NUL characters")
	}
	for segment := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		switch segment {
		case "", ".", "..":
			return errUntidyPath
		}
	}
	return errUnknownRoute
}
