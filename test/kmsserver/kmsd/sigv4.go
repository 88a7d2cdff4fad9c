package kmsd

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"time"
)

// maxSkew is how far a signature's time may be off.
const maxSkew = 5 * time.Minute

// authenticate verifies the SigV4 signature of a call and gives the Region that it is for.
func authenticate(r *http.Request, body []byte) (region string, failed *apiError) {
	authorization, ok := strings.CutPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ")
	if !ok {
		return "", &apiError{"MissingAuthenticationTokenException", "Missing Authentication Token"}
	}
	parts := map[string]string{}
	for _, part := range strings.Split(authorization, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		parts[name] = value
	}
	scope := strings.Split(parts["Credential"], "/")
	signed := strings.Split(parts["SignedHeaders"], ";")
	if len(scope) != 5 || scope[4] != "aws4_request" || len(parts["Signature"]) != 64 || !slices.IsSorted(signed) {
		return "", &apiError{"IncompleteSignatureException", "The Authorization header isn't well formed"}
	}
	for _, must := range []string{"host", "x-amz-date", "x-amz-target"} {
		if !slices.Contains(signed, must) {
			return "", &apiError{"IncompleteSignatureException", "The header " + must + " must be signed"}
		}
	}
	if scope[0] != AccessKey || r.Header.Get("X-Amz-Security-Token") != "" {
		return "", &apiError{"UnrecognizedClientException", "The security token included in the request is invalid."}
	}
	if scope[3] != "kms" {
		return "", &apiError{"InvalidSignatureException", "Credential should be scoped to correct service: 'kms'."}
	}
	date := r.Header.Get("X-Amz-Date")
	at, err := time.Parse("20060102T150405Z", date)
	if err != nil || date[:8] != scope[1] || time.Since(at).Abs() > maxSkew {
		return "", &apiError{"InvalidSignatureException", "Signature expired or its date isn't that of its scope"}
	}
	key := []byte("AWS4" + SecretKey)
	for _, part := range scope[1:] {
		key = mac(key, part)
	}
	hash := sha256.Sum256([]byte(canonicalRequest(r, signed, body)))
	toSign := strings.Join([]string{"AWS4-HMAC-SHA256", date, strings.Join(scope[1:], "/"), hex.EncodeToString(hash[:])}, "\n")
	if !hmac.Equal([]byte(hex.EncodeToString(mac(key, toSign))), []byte(parts["Signature"])) {
		return "", &apiError{"InvalidSignatureException", "The request signature we calculated does not match the signature you provided."}
	}
	return scope[2], nil
}

func canonicalRequest(r *http.Request, signed []string, body []byte) string {
	var headers strings.Builder
	for _, name := range signed {
		value := strings.Join(r.Header.Values(name), ",")
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = r.Header.Get("Content-Length")
			if value == "" {
				value = itoa(r.ContentLength)
			}
		}
		headers.WriteString(name + ":" + strings.Join(strings.Fields(value), " ") + "\n")
	}
	hash := sha256.Sum256(body)
	return strings.Join([]string{
		r.Method, r.URL.EscapedPath(), r.URL.Query().Encode(), headers.String(), strings.Join(signed, ";"), hex.EncodeToString(hash[:]),
	}, "\n")
}

func mac(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}
