package kms

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
)

// newHTTPClient makes the client for KMS out of the SDK's own, which has the operator's certificate authorities and proxy.
func newHTTPClient(base aws.HTTPClient) *http.Client {
	buildable, ok := base.(*awshttp.BuildableClient)
	if !ok {
		buildable = awshttp.NewBuildableClient()
	}
	transport := buildable.GetTransport() // a copy of its own
	transport.MaxIdleConnsPerHost = 64    // cold reads come in bursts
	return &http.Client{
		Transport: transport, Timeout: attemptTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // KMS doesn't redirect
	}
}

// secureOnly sends nothing over a connection that others can read, wherever the endpoint's address came from.
type secureOnly struct{ *http.Client }

func (c secureOnly) Do(r *http.Request) (*http.Response, error) {
	if err := CheckEndpoint(r.URL); err != nil {
		return nil, err
	}
	return c.Client.Do(r) //nolint:gosec // the address is the SDK's and the operator's, and was checked
}

// CheckEndpoint refuses the address of a KMS that isn't reached by https, unless it is on this host.
func CheckEndpoint(u *url.URL) error {
	host := u.Hostname()
	ip := net.ParseIP(host)
	switch {
	case host == "":
		return errors.New("isn't the address of a server: write https://HOST")
	case u.Scheme == "https", u.Scheme == "http" && (host == "localhost" || (ip != nil && ip.IsLoopback())):
		return nil
	default:
		return errors.New("isn't https, and KMS sends keys: write https://HOST (http only for a loopback address)")
	}
}

// guarded tells a lack of credentials from a failure of KMS.
type guarded struct{ aws.CredentialsProvider }

func (g guarded) Retrieve(ctx context.Context) (aws.Credentials, error) {
	c, err := g.CredentialsProvider.Retrieve(ctx)
	if err != nil {
		return c, &credentialsError{err}
	}
	return c, nil
}
