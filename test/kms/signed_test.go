package kms_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/sealkeep/sealkeep/test/kmsserver/kmsd"
	"github.com/sealkeep/sealkeep/test/kmsserver/kmstest"
)

// signing is how a call is signed, and what is done to it afterwards.
type signing struct {
	id, secret, service string
	at                  time.Time
	body                string
	spoil               func(*http.Request)
	replace             string // the body that is sent in the place of the one that was signed
}

// call sends a call to GenerateDataKey and gives the status and the error's type, which the header and the body must both name.
func (s signing) call(t *testing.T, server *kmstest.Server) (status int, kind string) {
	t.Helper()
	sent := s.body
	if s.replace != "" {
		sent = s.replace
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/", strings.NewReader(sent))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-amz-json-1.1")
	request.Header.Set("X-Amz-Target", "TrentService.GenerateDataKey")
	hash := sha256.Sum256([]byte(s.body))
	err = v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: s.id, SecretAccessKey: s.secret}, request, hex.EncodeToString(hash[:]), s.service, kmstest.Region, s.at)
	if err != nil {
		t.Fatal(err)
	}
	if s.spoil != nil {
		s.spoil(request)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var failure struct {
		Type string `json:"__type"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&failure); err != nil {
		t.Fatal(err)
	}
	if header := answer.Header.Get("X-Amzn-Errortype"); header != failure.Type {
		t.Errorf("the header says %q and the body %q", header, failure.Type)
	}
	return answer.StatusCode, failure.Type
}

// Each case differs from one that is taken in one thing alone, so that it is that thing which is refused.
func TestServer_TakesOnlySignedCalls(t *testing.T) {
	t.Parallel()
	server := kmstest.Start(t)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	body := `{"KeyId":"` + server.CreateKey(t, kmsd.CreateKey{}) + `","KeySpec":"AES_256"}`
	authorization := func(edit func(string) string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Authorization", edit(r.Header.Get("Authorization"))) }
	}
	for name, c := range map[string]struct {
		change func(*signing)
		want   string
	}{
		"as it should be":       {func(*signing) {}, ""},
		"with a wrong secret":   {func(s *signing) { s.secret = "wrong" }, "InvalidSignatureException"},
		"with an unknown id":    {func(s *signing) { s.id = "AKIASOMEBODYELSE0000" }, "UnrecognizedClientException"},
		"for another service":   {func(s *signing) { s.service = "s3" }, "InvalidSignatureException"},
		"an hour ago":           {func(s *signing) { s.at = s.at.Add(-time.Hour) }, "InvalidSignatureException"},
		"an hour from now":      {func(s *signing) { s.at = s.at.Add(time.Hour) }, "InvalidSignatureException"},
		"and with another body": {func(s *signing) { s.replace = strings.Replace(s.body, "AES_256", "AES_128", 1) }, "InvalidSignatureException"},
		"and with another target": {func(s *signing) {
			s.spoil = func(r *http.Request) { r.Header.Set("X-Amz-Target", "TrentService.Encrypt") }
		}, "InvalidSignatureException"},
		"and then not":                 {func(s *signing) { s.spoil = func(r *http.Request) { r.Header.Del("Authorization") } }, "MissingAuthenticationTokenException"},
		"with a bearer token":          {func(s *signing) { s.spoil = authorization(func(string) string { return "Bearer x" }) }, "MissingAuthenticationTokenException"},
		"with a signature that is cut": {func(s *signing) { s.spoil = authorization(func(a string) string { return a[:len(a)-1] }) }, "IncompleteSignatureException"},
		"but for the target": {func(s *signing) {
			s.spoil = authorization(func(a string) string { return strings.Replace(a, ";x-amz-target", "", 1) })
		}, "IncompleteSignatureException"},
		"with a token of a session":     {func(s *signing) { s.spoil = func(r *http.Request) { r.Header.Set("X-Amz-Security-Token", "x") } }, "UnrecognizedClientException"},
		"of what isn't JSON":            {func(s *signing) { s.body = "{" }, "SerializationException"},
		"of a field that there isn't":   {func(s *signing) { s.body = `{"Key":"x"}` }, "SerializationException"},
		"of a key of another length":    {func(s *signing) { s.body = strings.Replace(s.body, "AES_256", "AES_128", 1) }, "ValidationException"},
		"of a key that there isn't":     {func(s *signing) { s.body = strings.Replace(s.body, "key/", "key/0", 1) }, "NotFoundException"},
		"of a call in another language": {func(s *signing) { s.spoil = func(r *http.Request) { r.Header.Set("Content-Type", "text/xml") } }, "UnknownOperationException"},
	} {
		s := signing{id: kmsd.AccessKey, secret: kmsd.SecretKey, service: "kms", at: time.Now(), body: body}
		c.change(&s)
		want := http.StatusBadRequest
		if c.want == "" {
			want = http.StatusOK
		}
		if status, kind := s.call(t, server); status != want || kind != c.want {
			t.Errorf("signed %s: %d %q, want %d %q", name, status, kind, want, c.want)
		}
	}
}
