package httpapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/sealkeep/sealkeep/internal/access"
	"github.com/sealkeep/sealkeep/internal/secret"
	"github.com/sealkeep/sealkeep/internal/vault"
)

// document is docs/openapi.yaml, as far as these tests look at it.
type document struct {
	OpenAPI    string                          `yaml:"openapi"`
	Paths      map[string]map[string]operation `yaml:"paths"`
	Components struct {
		Parameters map[string]parameter `yaml:"parameters"`
		Responses  map[string]response  `yaml:"responses"`
		Schemas    map[string]schema    `yaml:"schemas"`
	} `yaml:"components"`
}

type operation struct {
	Parameters  []reference          `yaml:"parameters"`
	RequestBody reference            `yaml:"requestBody"`
	Responses   map[string]reference `yaml:"responses"`
	Security    []map[string][]string
}

type reference struct {
	Ref string `yaml:"$ref"`
}

func (r reference) name() string { return r.Ref[strings.LastIndexByte(r.Ref, '/')+1:] }

type parameter struct {
	Name, In string
}

type response struct {
	Headers map[string]reference
	Content map[string]struct {
		Schema reference
	}
}

type schema struct {
	Ref                  string `yaml:"$ref"`
	Type                 any
	Required             []string
	Properties           map[string]schema
	AdditionalProperties any `yaml:"additionalProperties"`
	Items                *schema
	OneOf                []schema `yaml:"oneOf"`
}

func loadDocument(t *testing.T) document {
	t.Helper()
	text, err := os.ReadFile("../../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var d document
	if err := yaml.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	if d.OpenAPI != "3.1.0" || len(d.Paths) == 0 {
		t.Fatalf("this is OpenAPI %q with %d paths", d.OpenAPI, len(d.Paths))
	}
	return d
}

func TestTheDocumentHasTheRoutesThatGinHas(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	var served []string
	for _, r := range e.engine.Routes() {
		if r.Path != secretsPrefix+"*path" {
			served = append(served, r.Method+" "+strings.NewReplacer(":name", "{name}", ":id", "{id}").Replace(r.Path))
			continue
		}
		for verb, byMethod := range e.secrets {
			if _, ok := byMethod[r.Method]; ok {
				served = append(served, r.Method+" "+strings.TrimSuffix(secretPattern+"/"+verb, "/"))
			}
		}
	}
	var documented []string
	for path, operations := range loadDocument(t).Paths {
		for method := range operations {
			documented = append(documented, strings.ToUpper(method)+" "+path)
		}
	}
	slices.Sort(served)
	slices.Sort(documented)
	for _, r := range served {
		if !slices.Contains(documented, r) {
			t.Errorf("%s is served and not documented", r)
		}
	}
	for _, r := range documented {
		if !slices.Contains(served, r) {
			t.Errorf("%s is documented and not served", r)
		}
	}
	if n := len(routes()); len(served) != n || len(documented) != n {
		t.Errorf("%d routes, %d served, %d documented", n, len(served), len(documented))
	}
}

func TestTheDocumentHasTheParametersBodiesAndStatusesOfEachRoute(t *testing.T) {
	t.Parallel()
	d := loadDocument(t)
	for _, r := range routes() {
		o := d.Paths[r.pattern][strings.ToLower(r.method)]
		var query, conditions []string
		named, idempotent := "", false
		for _, ref := range o.Parameters {
			switch p := d.Components.Parameters[ref.name()]; {
			case p.In == "query":
				query = append(query, p.Name)
			case p.In == "path":
				named = "{" + p.Name + "}"
			case p.Name == idempotencyKey:
				idempotent = true
			case strings.HasPrefix(p.Name, "If-"):
				conditions = append(conditions, p.Name)
			}
		}
		where := r.method + " " + r.pattern
		if !slices.Equal(slices.Sorted(slices.Values(query)), slices.Sorted(slices.Values(r.query))) {
			t.Errorf("%s takes %q and has %q documented", where, r.query, query)
		}
		if strings.Join(conditions, " ") != r.condition {
			t.Errorf("%s honours %q and has %q documented", where, r.condition, conditions)
		}
		if varies := regexp.MustCompile(`{\w+}`).FindString(r.pattern); named != varies {
			t.Errorf("%s: %q is documented to vary", where, named)
		}
		if idempotent != r.idempotent {
			t.Errorf("%s: an Idempotency-Key is documented: %v", where, idempotent)
		}
		if (o.RequestBody.Ref != "") != (r.body != bodyNone) {
			t.Errorf("%s has the body %q documented", where, o.RequestBody.Ref)
		}

		want := []string{"400", "500"}
		if r.body != bodyNone {
			want = append(want, "413", "415")
		}
		if r.condition == ifMatch {
			want = append(want, "412")
		}
		if r.condition == ifNoneMatch {
			want = append(want, "304")
		}
		if !r.probe {
			want = append(want, "401", "403", "429", "503")
		}
		for _, status := range want {
			if _, ok := o.Responses[status]; !ok {
				t.Errorf("%s has no %s", where, status)
			}
		}
		for status, ref := range o.Responses {
			if _, ok := d.Components.Responses[ref.name()]; !ok {
				t.Errorf("%s answers %s with %q, which is nowhere", where, status, ref.Ref)
			}
			if isError := status >= "400"; isError && d.errorOf(status) != ref.name() {
				t.Errorf("%s answers %s with %s", where, status, ref.name())
			}
		}
	}
}

// errorOf gives the name of the response for a status.
func (d document) errorOf(status string) string {
	return map[string]string{
		"400": "BadRequest", "401": "Unauthorized", "403": "Forbidden", "404": "NotFound", "405": "MethodNotAllowed",
		"409": "Conflict", "412": "PreconditionFailed", "413": "TooLarge", "415": "UnsupportedMediaType",
		"429": "TooManyRequests", "500": "InternalError", "503": "Unavailable",
	}[status]
}

func TestEveryErrorIsDocumentedWithTheOneShape(t *testing.T) {
	t.Parallel()
	d := loadDocument(t)
	for kind := range everyKind {
		status := fmt.Sprint(statusOf(kind))
		r, ok := d.Components.Responses[d.errorOf(status)]
		if !ok || r.Content["application/json"].Schema.name() != "Error" {
			t.Errorf("%s, %v: %+v", status, kind, r)
		}
	}
	for name, r := range d.Components.Responses {
		for _, h := range []string{"X-Request-Id", "Cache-Control"} {
			if _, ok := r.Headers[h]; !ok {
				t.Errorf("%s has no %s", name, h)
			}
		}
	}
	for status, h := range map[string]string{"401": "WWW-Authenticate", "405": "Allow", "429": "Retry-After", "503": "Retry-After"} {
		if _, ok := d.Components.Responses[d.errorOf(status)].Headers[h]; !ok {
			t.Errorf("%s has no %s", status, h)
		}
	}
}

// TestAnswersHaveTheFieldsOfTheirSchemas writes every shape once with all and once with no optional fields.
func TestAnswersHaveTheFieldsOfTheirSchemas(t *testing.T) {
	t.Parallel()
	d := loadDocument(t)
	i, s := int64(1), at
	permissions := []access.Permission{{Action: access.Read, Path: "a"}}
	for name, shapes := range map[string][]any{
		"Error":           {errorBody{}},
		"Metadata":        {viewMetadata(vault.Metadata{}), viewMetadata(vault.Metadata{RotationIntervalSecs: &i, NextRotationAt: &s, CustomMetadata: map[string]string{"a": "b"}}), viewMetadata(settled(postgresTarget)), viewMetadata(settled(webhookTarget))},
		"MetadataPage":    {pageView{Items: views([]vault.Metadata{{}}, viewMetadata)}, pageView{NextCursor: new(string)}},
		"VersionMetadata": {viewVersion(vault.VersionMetadata{}), viewVersion(vault.VersionMetadata{ExpiresAt: &s})},
		"VersionList":     {versionsView{}, versionsView{Items: views([]vault.VersionMetadata{{}}, viewVersion)}},
		"Role":            {viewRole(vault.Role{}), viewRole(vault.Role{Permissions: permissions})},
		"RoleList":        {itemsView[roleView]{}, itemsView[roleView]{Items: views([]vault.Role{{}}, viewRole)}},
		"TokenMetadata":   {viewToken(vault.Token{}), viewToken(vault.Token{ExpiresAt: &s, RevokedAt: &s, LastUsedAt: &s})},
		"TokenList":       {itemsView[tokenView]{}},
		"Event":           {viewEvent(vault.Event{}), viewEvent(vault.Event{ClientIP: "a", SecretName: "a", Version: 1, RequestID: "a", TraceID: "a", Detail: "{}"})},
		"EventList":       {itemsView[eventView]{}},
		"Status":          {viewStatus("v", &vault.Status{})},
		"Rotation":        {viewRotation(vault.RotationStatus{}), viewRotation(vault.RotationStatus{ChangedAt: &s})},
		"Job":             {viewJob(vault.JobView{}), viewJob(vault.JobView{RunAt: &s, StartedAt: &s, DeadAt: &s, CompletedAt: &s, Outcome: "a", Class: "a", Error: "a"})},
		"JobPage":         {jobPageView{Items: views([]vault.JobView{{}}, viewJob)}, jobPageView{NextCursor: new(string)}},
		"Healthy":         {probeView{Status: "ok"}},
		"Ready":           {probeView{Status: "ready"}},
		"Verdict":         {verdict(t, vault.Verdict{}), verdict(t, vault.Verdict{Valid: true, Version: 1})},
		"Secret":          {disclosed(t, text("v")), disclosed(t, nil)},
		"IssuedToken":     {issued(t)},
	} {
		for _, shape := range shapes {
			body, err := marshal(shape)
			if err != nil {
				t.Fatal(err)
			}
			var value any
			if err := json.Unmarshal(body, &value); err != nil {
				t.Fatal(err)
			}
			target := d.Components.Schemas[name]
			if name == "Secret" { // its shapes are told apart elsewhere
				target = d.Components.Schemas["TextSecret"]
				if shape.(map[string]any)["value"] == nil {
					target = d.Components.Schemas["SecretWithoutValue"]
				}
			}
			d.check(t, name, target, value)
		}
	}
}

// check holds a value against a schema: its fields, the types of null and time, what is in it.
func (d document) check(t *testing.T, where string, s schema, value any) {
	t.Helper()
	if s.Ref != "" {
		s = d.Components.Schemas[reference{Ref: s.Ref}.name()]
	}
	if len(s.OneOf) > 0 {
		for _, one := range s.OneOf {
			if value == nil && one.Type == "null" {
				return
			}
			if one.Ref != "" {
				one = d.Components.Schemas[reference{Ref: one.Ref}.name()]
			}
			if m, ok := value.(map[string]any); ok && len(m) == len(one.Required) {
				d.check(t, where, one, value)
				return
			}
		}
		t.Errorf("%s: %v is none of its kinds", where, value)
	}
	switch v := value.(type) {
	case nil:
		if types, _ := s.Type.([]any); !slices.Contains(types, any("null")) {
			t.Errorf("%s is null and may not be", where)
		}
	case map[string]any:
		if s.Properties == nil {
			return
		}
		if s.AdditionalProperties != false {
			t.Errorf("%s takes other fields, so that drift would not show", where)
		}
		for _, field := range s.Required {
			if _, ok := v[field]; !ok {
				t.Errorf("%s.%s is required and absent", where, field)
			}
		}
		for _, field := range slices.Sorted(maps.Keys(v)) {
			property, ok := s.Properties[field]
			if !ok {
				t.Errorf("%s.%s is not documented", where, field)
				continue
			}
			d.check(t, where+"."+field, property, v[field])
		}
	case []any:
		for _, item := range v {
			d.check(t, where+"[]", *s.Items, item)
		}
	}
}

var (
	postgresTarget = &secret.Target{Postgres: &secret.PostgresTarget{
		Hosts: []string{"a:5432"}, Standbys: []string{"b:5432"}, Database: "d", Mode: secret.ModeAlternating, Usernames: []string{"u", "v"}, LoginSecret: "l", CA: "c", ProbeSecs: 10,
	}}
	webhookTarget = &secret.Target{Webhook: &secret.WebhookTarget{URL: "https://a", SigningSecret: "s", SendValue: true, CA: "c"}}
)

// settled is a secret of which everything is said.
func settled(t *secret.Target) vault.Metadata {
	return vault.Metadata{Target: t, Rotation: secret.Rotation{
		Schedule: secret.Schedule{Cron: "@daily", TimeZone: "Europe/Berlin", Window: time.Hour, Missed: secret.MissedWait},
		Policy:   secret.PasswordPolicy{Length: 43, Alphabet: "ab", Classes: []string{"lower"}}, LoginHosts: []string{"a:5432"}, Paused: true,
	}}
}

func disclosed(t *testing.T, m *secret.Material) map[string]any {
	t.Helper()
	var b disclosure
	if err := b.secret(sample(m)); err != nil {
		t.Fatal(err)
	}
	return object(t, b.buf)
}

func verdict(t *testing.T, v vault.Verdict) map[string]any {
	t.Helper()
	var b disclosure
	if err := b.verdict(v); err != nil {
		t.Fatal(err)
	}
	return object(t, b.buf)
}

func issued(t *testing.T) map[string]any {
	t.Helper()
	var b disclosure
	expires := at.Add(time.Hour)
	if err := b.token(&vault.IssuedToken{CreatedAt: at, ExpiresAt: &expires}); err != nil {
		t.Fatal(err)
	}
	return object(t, b.buf)
}

func object(t *testing.T, body []byte) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(body, &m); err != nil {
		t.Fatal(err)
	}
	return m
}
