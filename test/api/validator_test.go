package api

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
)

// contract is docs/openapi.yaml.
type contract struct {
	doc *openapi3.T
}

func loadContract(t *testing.T) *contract {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromFile("../../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatalf("docs/openapi.yaml is no OpenAPI document: %v", err)
	}
	return &contract{doc}
}

// endpoint is an operation with its place in the document.
type endpoint struct {
	path   string
	item   *openapi3.PathItem
	method string
	op     *openapi3.Operation
}

func (c *contract) endpoints() map[string]endpoint {
	all := map[string]endpoint{}
	for path, item := range c.doc.Paths.Map() {
		for method, op := range item.Operations() {
			all[op.OperationID] = endpoint{path, item, method, op}
		}
	}
	return all
}

// find says which operation a request is for; ok is false if none is. It tells routes on a secret apart as the document's
// text has it: names hold slashes, and the verbs are no last segments of names.
func (c *contract) find(method, path string) (endpoint, bool) {
	pattern := path
	if name, ok := strings.CutPrefix(path, "/v1/secrets/"); ok {
		pattern = "/v1/secrets/{name}"
		for _, verb := range []string{"/rotate", "/verify", "/versions", "/rollback", "/pause", "/resume", "/jobs"} {
			if strings.HasSuffix(name, verb) {
				pattern += verb
			}
		}
	}
	for _, kind := range []string{"roles", "tokens"} {
		if name, ok := strings.CutPrefix(path, "/v1/"+kind+"/"); ok {
			_, below, _ := strings.Cut(name, "/")
			pattern = strings.TrimSuffix("/v1/"+kind+"/{name}/"+below, "/")
		}
	}
	if id, ok := strings.CutPrefix(path, "/v1/jobs/"); ok {
		_, below, _ := strings.Cut(id, "/")
		pattern = strings.TrimSuffix("/v1/jobs/{id}/"+below, "/")
	}
	item := c.doc.Paths.Value(pattern)
	if item == nil || item.GetOperation(method) == nil {
		return endpoint{}, false
	}
	return endpoint{pattern, item, method, item.GetOperation(method)}, true
}

// validator is a RoundTripper that holds every response against the contract, and remembers what it has seen.
type validator struct {
	t        *testing.T
	contract *contract
	base     http.RoundTripper

	mu   sync.Mutex
	seen map[string]map[int]int // responses by operation and status
}

func newValidator(t *testing.T, c *contract) *validator {
	base := &http.Transport{}
	t.Cleanup(base.CloseIdleConnections)
	return &validator{t: t, contract: c, base: base, seen: map[string]map[int]int{}}
}

// RoundTrip sends the request and fails the test if the response isn't as documented.
func (v *validator) RoundTrip(request *http.Request) (*http.Response, error) {
	var sent []byte
	if request.Body != nil {
		sent, _ = io.ReadAll(request.Body)
		request.Body = io.NopCloser(bytes.NewReader(sent))
	}
	response, err := v.base.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if err != nil {
		return nil, err
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	if err := v.check(request, sent, response, body); err != nil {
		v.t.Errorf("%s %s answered %d, not as docs/openapi.yaml has it: %v\n%s", request.Method, request.URL.Path, response.StatusCode, err, body)
	}
	return response, nil
}

func (v *validator) check(request *http.Request, sent []byte, response *http.Response, body []byte) error {
	e, ok := v.contract.find(request.Method, request.URL.Path)
	if !ok {
		return v.checkOutside(request, response, body)
	}
	v.mu.Lock()
	if v.seen[e.op.OperationID] == nil {
		v.seen[e.op.OperationID] = map[int]int{}
	}
	v.seen[e.op.OperationID][response.StatusCode]++
	v.mu.Unlock()
	if err := v.checkResponse(e, request, response, body); err != nil {
		return err
	}
	if response.StatusCode < 300 && len(sent) > 0 {
		return v.checkAccepted(e, request, sent)
	}
	return nil
}

func input(doc *openapi3.T, e endpoint, request *http.Request) *openapi3filter.RequestValidationInput {
	return &openapi3filter.RequestValidationInput{
		Request: request,
		Route:   &routers.Route{Spec: doc, Path: e.path, PathItem: e.item, Method: e.method, Operation: e.op},
	}
}

func (v *validator) checkResponse(e endpoint, request *http.Request, response *http.Response, body []byte) error {
	documented := e.op.Responses.Status(response.StatusCode)
	if documented == nil {
		return fmt.Errorf("%s has no %d", e.op.OperationID, response.StatusCode)
	}
	// kin-openapi leaves out both of these.
	if len(documented.Value.Content) == 0 && len(body) > 0 {
		return fmt.Errorf("it has a body")
	}
	for name, header := range documented.Value.Headers {
		if header.Value.Required && response.Header.Get(name) == "" {
			return fmt.Errorf("it has no %s", name)
		}
	}
	return openapi3filter.ValidateResponse(request.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input(v.contract.doc, e, request), Status: response.StatusCode, Header: response.Header,
		Body:    io.NopCloser(bytes.NewReader(body)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	})
}

// checkAccepted holds a body that succeeded against the contract: what the document forbids must not work.
func (v *validator) checkAccepted(e endpoint, request *http.Request, sent []byte) error {
	again := request.Clone(request.Context())
	again.Body = io.NopCloser(bytes.NewReader(sent))
	if err := openapi3filter.ValidateRequestBody(request.Context(), input(v.contract.doc, e, again), e.op.RequestBody.Value); err != nil {
		return fmt.Errorf("it accepted a body that isn't allowed: %w", err)
	}
	return nil
}

// checkOutside holds what answers requests that no operation takes against the components that describe it.
func (v *validator) checkOutside(request *http.Request, response *http.Response, body []byte) error {
	name := map[int]string{400: "BadRequest", 404: "NotFound", 405: "MethodNotAllowed"}[response.StatusCode]
	component := v.contract.doc.Components.Responses[name]
	if component == nil {
		return fmt.Errorf("nothing describes it")
	}
	op := &openapi3.Operation{OperationID: name, Responses: openapi3.NewResponses(openapi3.WithStatus(response.StatusCode, component))}
	return v.checkResponse(endpoint{path: request.URL.Path, item: &openapi3.PathItem{}, method: request.Method, op: op}, request, response, body)
}
