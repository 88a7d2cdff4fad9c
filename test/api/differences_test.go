package api

import (
	"net/http"
	"net/http/httptest"
	"strings"
)

// stub is an answer that was made up.
type stub struct {
	method, path, accepted string
	status                 int
	header                 map[string]string
	body                   string
}

func (s stub) check(c *contract) error {
	request := httptest.NewRequest(s.method, s.path, strings.NewReader(s.accepted))
	request.Header.Set("Content-Type", "application/json")
	header := http.Header{}
	header.Set("Content-Type", "application/json")
	header.Set("X-Request-Id", "id")
	header.Set("Cache-Control", "no-store")
	for name, value := range s.header {
		header.Set(name, value)
		if value == "" {
			header.Del(name)
		}
	}
	v := &validator{contract: c, seen: map[string]map[int]int{}}
	return v.check(request, []byte(s.accepted), &http.Response{StatusCode: s.status, Header: header}, []byte(s.body))
}

const fine = `{"valid":true,"version":1}`

var differences = map[string]stub{
	"none":                    {method: "POST", path: "/v1/secrets/a/verify", accepted: `{"value":"v"}`, status: 200, body: fine},
	"a status":                {method: "POST", path: "/v1/secrets/a/verify", status: 201, body: fine},
	"a field too many":        {method: "POST", path: "/v1/secrets/a/verify", status: 200, body: `{"valid":true,"version":1,"x":1}`},
	"a field too few":         {method: "POST", path: "/v1/secrets/a/verify", status: 200, body: `{"version":1}`},
	"a type":                  {method: "POST", path: "/v1/secrets/a/verify", status: 200, body: `{"valid":"true","version":1}`},
	"no JSON":                 {method: "POST", path: "/v1/secrets/a/verify", status: 200, body: `{`},
	"a media type":            {method: "POST", path: "/v1/secrets/a/verify", status: 200, body: fine, header: map[string]string{"Content-Type": "text/plain"}},
	"a missing header":        {method: "POST", path: "/v1/secrets/a/verify", status: 200, body: fine, header: map[string]string{"X-Request-Id": ""}},
	"a wrong header":          {method: "POST", path: "/v1/secrets/a/verify", status: 200, body: fine, header: map[string]string{"Cache-Control": "public"}},
	"a missing header of 304": {method: "GET", path: "/v1/secrets/a", status: 304},
	"a body of 204":           {method: "DELETE", path: "/v1/secrets/a", status: 204, body: "{}"},
	"an error's shape":        {method: "GET", path: "/v1/secrets/a", status: 404, body: `{"error":"no","code":"not_found"}`},
	"an error's code":         {method: "GET", path: "/v1/secrets/a", status: 404, body: `{"error":"no","code":"Not Found","request_id":"id"}`},
	"an accepted body":        {method: "POST", path: "/v1/secrets/a/verify", accepted: `{"value":"v","x":1}`, status: 200, body: fine},
	"no operation":            {method: "GET", path: "/v1/nothing", status: 200, body: fine},
}
