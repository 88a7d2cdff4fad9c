package httpapi

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/fault"
)

// route is one operation of the API. Everything that it accepts is listed here; what isn't is refused before its handler
// runs.
type route struct {
	method string
	// pattern is the path as docs/openapi.yaml has it. At most one segment varies, {name} or {id}.
	pattern string
	body    bodyRule
	// query lists the known parameters.
	query []string
	// condition is the one conditional header that is honoured, or empty.
	condition string
	// idempotent tells that an Idempotency-Key is honoured.
	idempotent bool
	// probe marks what asks for nothing: no token is read, no query refused.
	probe  bool
	handle func(*api, context.Context, *exchange) error
}

type bodyRule uint8

const (
	bodyNone     bodyRule = iota // there must be none
	bodyRequired                 // there must be one
	bodyOptional                 // there may be one
)

const (
	healthPattern = "/healthz"
	readyPattern  = "/readyz"
	secretPattern = "/v1/secrets/{name}" //nolint:gosec // a path, no credential
)

// routes lists the whole API.
func routes() []route {
	return []route{
		{method: http.MethodPost, pattern: "/v1/secrets", body: bodyRequired, idempotent: true, handle: (*api).createSecret},
		{method: http.MethodGet, pattern: "/v1/secrets", query: []string{"prefix", "limit", "cursor"}, handle: (*api).listSecrets},
		{method: http.MethodGet, pattern: secretPattern, query: []string{"version"}, condition: ifNoneMatch, handle: (*api).readSecret},
		{method: http.MethodPut, pattern: secretPattern, body: bodyRequired, condition: ifMatch, handle: (*api).updateSecret},
		{method: http.MethodDelete, pattern: secretPattern, condition: ifMatch, handle: (*api).deleteSecret},
		{method: http.MethodPost, pattern: secretPattern + "/" + verbRotate, body: bodyOptional, query: []string{"wait"}, idempotent: true, handle: (*api).rotateSecret},
		{method: http.MethodPost, pattern: secretPattern + "/" + verbRollback, body: bodyRequired, query: []string{"wait"}, idempotent: true, handle: (*api).rollbackSecret},
		{method: http.MethodPost, pattern: secretPattern + "/" + verbPause, body: bodyOptional, handle: (*api).pauseSecret},
		{method: http.MethodPost, pattern: secretPattern + "/" + verbResume, body: bodyOptional, handle: (*api).resumeSecret},
		{method: http.MethodGet, pattern: secretPattern + "/" + verbJobs, query: []string{"state", "limit", "cursor"}, handle: (*api).listJobs},
		{method: http.MethodPost, pattern: secretPattern + "/" + verbVerify, body: bodyRequired, handle: (*api).verifySecret},
		{method: http.MethodGet, pattern: secretPattern + "/" + verbVersions, handle: (*api).listVersions},
		{method: http.MethodPost, pattern: "/v1/batch/secrets", body: bodyRequired, handle: (*api).readBatch},

		{method: http.MethodPost, pattern: "/v1/roles", body: bodyRequired, handle: (*api).createRole},
		{method: http.MethodGet, pattern: "/v1/roles", handle: (*api).listRoles},
		{method: http.MethodGet, pattern: "/v1/roles/{name}", handle: (*api).readRole},
		{method: http.MethodDelete, pattern: "/v1/roles/{name}", handle: (*api).deleteRole},
		{method: http.MethodPut, pattern: "/v1/roles/{name}/permissions", body: bodyRequired, handle: (*api).setPermissions},
		{method: http.MethodPost, pattern: "/v1/tokens", body: bodyRequired, handle: (*api).createToken},
		{method: http.MethodGet, pattern: "/v1/tokens", handle: (*api).listTokens},
		{method: http.MethodDelete, pattern: "/v1/tokens/{name}", handle: (*api).revokeToken},

		{method: http.MethodGet, pattern: "/v1/jobs", query: []string{"state", "prefix", "limit", "cursor"}, handle: (*api).listJobs},
		{method: http.MethodGet, pattern: "/v1/jobs/{id}", handle: (*api).readJob},
		{method: http.MethodPost, pattern: "/v1/jobs/{id}/retry", body: bodyOptional, handle: (*api).retryJob},
		{method: http.MethodPost, pattern: "/v1/jobs/{id}/cancel", body: bodyOptional, handle: (*api).cancelJob},
		{method: http.MethodGet, pattern: "/v1/rotation", handle: (*api).readRotation},
		{method: http.MethodPost, pattern: "/v1/rotation/pause", body: bodyOptional, handle: (*api).pauseRotation},
		{method: http.MethodPost, pattern: "/v1/rotation/resume", body: bodyOptional, handle: (*api).resumeRotation},
		{method: http.MethodGet, pattern: "/v1/rotation/fetch", handle: (*api).fetchValue},

		{method: http.MethodGet, pattern: "/v1/audit", query: []string{"limit", "since", "until"}, handle: (*api).listEvents},
		{method: http.MethodGet, pattern: "/v1/status", handle: (*api).status},
		{method: http.MethodGet, pattern: healthPattern, probe: true, handle: (*api).health},
		{method: http.MethodGet, pattern: readyPattern, probe: true, handle: (*api).ready},
	}
}

// register hands the routes to gin. Names of secrets hold slashes, so all routes on one secret share a wildcard per
// method, and splitPath tells them apart.
func (a *api) register() {
	a.secrets = map[string]map[string]*route{}
	wildcards := map[string]bool{}
	for _, r := range routes() {
		below, onSecret := strings.CutPrefix(r.pattern, secretPattern)
		if !onSecret {
			a.engine.Handle(r.method, ginPath(r.pattern), a.onRoute(r))
			continue
		}
		verb := strings.TrimPrefix(below, "/")
		if a.secrets[verb] == nil {
			a.secrets[verb] = map[string]*route{}
		}
		a.secrets[verb][r.method] = &r
		if !wildcards[r.method] {
			wildcards[r.method] = true
			a.engine.Handle(r.method, secretsPrefix+"*path", a.onSecret)
		}
	}
	a.engine.NoRoute(func(c *gin.Context) {
		x := exchangeOf(c)
		x.fail(checkPath(rawPath(x.request.URL)))
	})
	a.engine.NoMethod(a.onNoMethod)
}

// exchangeOf finds the exchange that gin is handling, and has it answer through gin's writer, which wraps the one that
// gin was handed.
func exchangeOf(c *gin.Context) *exchange {
	x := c.Writer.(interface{ Unwrap() http.ResponseWriter }).Unwrap().(*exchange)
	x.out = c.Writer
	return x
}

// ginPath gives a pattern as gin has it.
func ginPath(pattern string) string { return strings.NewReplacer("{", ":", "}", "").Replace(pattern) }

func (a *api) onRoute(r route) gin.HandlerFunc {
	at := slices.IndexFunc(strings.Split(r.pattern, "/"), func(segment string) bool { return strings.HasPrefix(segment, "{") })
	return func(c *gin.Context) {
		x := exchangeOf(c)
		x.route = r.pattern
		if at >= 0 {
			var err error
			if x.name, err = entityName(rawPath(x.request.URL), at); err != nil {
				x.fail(err)
				return
			}
		}
		a.serve(x, &r)
	}
}

// entityName takes the name of a role or token, or the id of a job, out of a path as it was sent, of which it is segment number at.
func entityName(raw string, at int) (string, error) {
	name, err := url.PathUnescape(strings.Split(raw, "/")[at])
	if err != nil {
		return "", errBadEscape
	}
	return access.ParseEntityName(name)
}

func (a *api) onSecret(c *gin.Context) {
	x := exchangeOf(c)
	x.route = secretPattern
	name, verb, err := secretPath(x.request.URL)
	if err != nil {
		x.fail(err)
		return
	}
	r, ok := a.secrets[verb][x.request.Method]
	if !ok {
		if verb != verbItself {
			x.route += "/" + verb
		}
		x.failMethod(allowed(a.secrets[verb]))
		return
	}
	x.route = r.pattern
	x.name = name.String()
	a.serve(x, r)
}

// onNoMethod answers methods that gin has no route for. Below /v1/secrets/ its Allow would join those of all verbs.
func (a *api) onNoMethod(c *gin.Context) {
	x := exchangeOf(c)
	allow := c.Writer.Header().Get("Allow")
	if raw, ok := strings.CutPrefix(rawPath(x.request.URL), secretsPrefix); ok {
		if _, verb, err := splitPath(raw); err == nil {
			allow = allowed(a.secrets[verb])
		}
	}
	x.failMethod(allow)
}

func allowed(byMethod map[string]*route) string {
	var methods []string
	for m := range byMethod {
		methods = append(methods, m)
	}
	slices.Sort(methods)
	return strings.Join(methods, ", ")
}

func (x *exchange) failMethod(allow string) {
	x.out.Header().Set("Allow", allow)
	x.fail(fault.New(fault.MethodNotAllowed, "this route takes "+allow))
}

// serve checks what every route has checked in the same way, and runs the handler.
func (a *api) serve(x *exchange, r *route) {
	if err := a.admit(x, r); err != nil {
		x.fail(err)
		return
	}
	if x.body != nil {
		defer func() {
			x.buffers.put(x.body)
			x.body = nil
		}()
	}
	if !r.probe {
		x.authenticate()
		defer x.token.Release()
	}
	err := r.handle(a, x.ctx, x)
	if err == nil {
		return
	}
	// The use case saw no token. What is wrong with the one that was sent says more.
	if x.tokenErr != nil && fault.KindOf(err) == fault.Unauthenticated {
		err = x.tokenErr
	}
	x.fail(err)
}

func (a *api) admit(x *exchange, r *route) (err error) {
	if !r.probe {
		if x.query, err = parseQuery(x.request.URL.RawQuery, r.query); err != nil {
			return err
		}
		if err = checkConditions(x.request, r); err != nil {
			return err
		}
	}
	x.body, err = readBody(x.buffers, x.request, r.body)
	return err
}
