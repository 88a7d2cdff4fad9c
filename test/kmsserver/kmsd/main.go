// Package kmsd is a KMS for tests. It isn't AWS KMS and stands for it only in what it is strict about:
//
//   - every call carries a SigV4 signature of a known access key, which verifies;
//   - a ciphertext names its key and its backing key's generation, and opens only under exactly its encryption context;
//   - a key has a state, aliases, replicas in other Regions with states of their own, and actions that are denied;
//   - errors have AWS's names, in its order: who may not call learns nothing of the key's state.
//
// Its keys are made at run time and worth nothing.
package kmsd

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// Fixed names of the one account and its credentials.
const (
	Account   = "111122223333"
	AccessKey = "AKIAKMSSERVERFORTEST"
	SecretKey = "this-secret-key-is-known-to-everyone-who-tests"
)

// Addresses is the line that the server prints when it serves.
type Addresses struct {
	KMS     string `json:"kms"`     // URL of the protocol
	Control string `json:"control"` // URL of the commands
	Key     string `json:"key,omitempty"`
}

// Main runs the server until stdin ends.
func Main(args []string, stdin io.Reader, stdout io.Writer) error {
	flags := flag.NewFlagSet("kmsserver", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:0", "where KMS is spoken")
	control := flags.String("control", "127.0.0.1:0", "where commands are taken")
	file := flags.String("file", "", "where keys are kept; empty: in memory")
	key := flags.String("key", "", "make a key in this Region and print its ARN")
	if err := flags.Parse(args); err != nil {
		return err
	}
	store, err := openStore(*file)
	if err != nil {
		return err
	}
	s := &server{store: store, calls: map[string]int{}, fault: Fault{}, changed: make(chan struct{})}
	at := Addresses{}
	if *key != "" {
		arn, err := store.create(CreateKey{Region: *key})
		if err != nil {
			return err
		}
		at.Key = arn
	}
	var servers []*http.Server
	for _, one := range []struct {
		address string
		handler http.Handler
		url     *string
	}{{*listen, http.HandlerFunc(s.serveKMS), &at.KMS}, {*control, s.controls(), &at.Control}} {
		listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", one.address)
		if err != nil {
			return err
		}
		*one.url = "http://" + listener.Addr().String()
		h := &http.Server{Handler: one.handler, ReadHeaderTimeout: 10 * time.Second}
		servers = append(servers, h)
		go func() { _ = h.Serve(listener) }()
	}
	line, err := json.Marshal(at)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s\n", line)
	_, _ = io.Copy(io.Discard, stdin) // ends when whoever started it does
	for _, h := range servers {
		_ = h.Close()
	}
	return nil
}
