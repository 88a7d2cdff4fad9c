package boot_test

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
)

// maxAllocations is how many allocations an audited read took in a whole process when it was last looked at. A tenth more fails:
// raise it only for something that is worth it.
const maxAllocations = 66

// BenchmarkAllocationsPerAuditedRead reads one secret over HTTP, with a token, one request at a time, so that each has a round
// of its own: the most that a read costs. It counts what the whole process allocates, the server's side of HTTP included.
func BenchmarkAllocationsPerAuditedRead(b *testing.B) {
	v := sealkeeptest.New(b, sealkeeptest.WithReadAuth("ip+token"), sealkeeptest.WithEnv("VAULT_LOG_LEVEL", "info"), sealkeeptest.WithLog(io.Discard))
	v.Do(b, http.MethodPost, "/v1/secrets", map[string]any{"name": "app/db", "kind": "manual", "value": strings.Repeat("v", 100)},
		sealkeeptest.WithToken(v.AdminToken)).Want(b, http.StatusCreated)

	conn, err := net.Dial("tcp", strings.TrimPrefix(v.URL, "http://"))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	request := []byte("GET /v1/secrets/app/db HTTP/1.1\r\nHost: vault\r\nAuthorization: Bearer " + v.AdminToken + "\r\n\r\n")
	answers, body := bufio.NewReader(conn), make([]byte, 1024)
	read := func() {
		if _, err := conn.Write(request); err != nil {
			b.Fatal(err)
		}
		length, ok := 0, false
		for {
			line, err := answers.ReadSlice('\n')
			if err != nil {
				b.Fatal(err)
			}
			if bytes.HasPrefix(line, []byte("HTTP/1.1 200")) {
				ok = true
			}
			if n, found := bytes.CutPrefix(line, []byte("Content-Length: ")); found {
				for _, digit := range bytes.TrimSpace(n) {
					length = 10*length + int(digit-'0')
				}
			}
			if len(bytes.TrimSpace(line)) == 0 {
				break
			}
		}
		if _, err := io.ReadFull(answers, body[:length]); err != nil || !ok {
			b.Fatalf("%v: %s", err, body[:length])
		}
	}
	for range 200 { // buffers, pools and prepared statements
		read()
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for b.Loop() {
		read()
	}
	runtime.ReadMemStats(&after)
	each := float64(after.Mallocs-before.Mallocs) / float64(b.N)
	b.ReportMetric(each, "allocations/read")
	b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/float64(b.N), "B/read")
	if b.N >= 1000 && each > 1.1*maxAllocations {
		b.Errorf("a read takes %.1f allocations; it took %d", each, maxAllocations)
	}
}
