//go:build linux

// Package memory looks into the memory of an API process that serves, for keys and values that it must no longer hold.
//
// The process is cmd/api on a real database. The test knows every DEK and every value, and reads all memory that the process
// may write, while it stands still. Each search is held against what has to be there at that moment: DEKs that are cached, and
// a value of its environment.
package memory

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sealkeep/sealkeep/internal/pgtest"
	"github.com/sealkeep/sealkeep/internal/sealkeeptest"
	"github.com/sealkeep/sealkeep/test/kmsserver/kmsd"
	"github.com/sealkeep/sealkeep/test/kmsserver/kmstest"
	"github.com/sealkeep/sealkeep/test/vaulttest"
)

func TestMain(m *testing.M) {
	kmstest.Serve()
	pgtest.Main(m)
}

// cacheTTL is long enough to look at what is cached, and short enough to wait for its end.
const cacheTTL = "15"

// further is how many requests follow what is searched for.
const further = 1000

// value gives text of a length, of which every part of 51 bytes holds its marker.
func value(length int) (text, marker string) {
	marker = rand.Text()
	return strings.Repeat(marker, length/len(marker)+1)[:length], marker
}

// mode is how a process is built and where its keys are.
type mode struct {
	experiment string
	aws        bool
	erasesDEKs bool // none may be left; otherwise what is left is printed
	erasesAll  bool // the same of values
}

func TestI1_NothingIsLeftInMemoryOfKeysAndValues(t *testing.T) {
	if testing.Short() {
		t.Skip("builds programs and reads all memory of them")
	}
	t.Parallel()
	supported := runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64"
	for name, m := range map[string]mode{
		"local master key, runtime/secret":         {experiment: "runtimesecret", erasesDEKs: supported, erasesAll: supported},
		"local master key, without runtime/secret": {},
		"AWS KMS, runtime/secret":                  {experiment: "runtimesecret", aws: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m.search(t)
		})
	}
}

func (m mode) search(t *testing.T) {
	binary := build(t, m.experiment)
	var config vaulttest.Config
	environ := map[string]string{}
	if m.aws {
		server := kmstest.Start(t)
		config.KMS = server.Environ(server.CreateKey(t, kmsd.CreateKey{}))
		for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"} {
			environ[name] = os.Getenv(name)
		}
	} else {
		config.KMS = sealkeeptest.OfKMS(localKey(t))
	}
	v := vaulttest.New(t, config)

	// What the process only reads, and what it is given. Many are small, so that not all that is left of them is written over soon.
	markers := map[string]string{}
	lengths := map[string]int{"40": 40, "1000": 1000, "3000": 3000, "20000": 20000}
	for i := range 100 {
		lengths[fmt.Sprintf("small/%d", i)] = 40
	}
	for name, length := range lengths {
		text, marker := value(length)
		markers["read/"+name] = marker
		v.Do(t, "POST", "/v1/secrets", map[string]any{"name": "read/" + name, "kind": "manual", "value": text}).Want(t, 201)
	}
	v.Stop(t)
	planted, plantedMarker := value(40)
	environ["PLANTED"] = planted
	c := start(t, binary, v, environ)
	noise, _ := value(4096)
	c.create("noise", noise)
	for name, length := range lengths {
		text, marker := value(length)
		markers["given/"+name] = marker
		c.create("given/"+name, text)
	}
	n := newNeedles()
	n.add("planted", []byte(plantedMarker))
	for name, marker := range markers {
		n.add("the value of "+name, []byte(marker))
	}
	var deks []string
	for _, s := range v.Stored(t, "") {
		if s.Name != "noise" {
			n.addKey("the DEK of "+s.Name, s.DEK)
			text := []byte(base64.StdEncoding.EncodeToString(s.DEK)) // as AWS KMS gives it
			n.add("the DEK, in base64, of "+s.Name, text)
			n.add("the DEK, in base64, of "+s.Name, text[16:])
			deks = append(deks, "the DEK of "+s.Name)
		}
	}
	for name, marker := range markers {
		if !strings.Contains(c.read(name), marker) {
			t.Fatalf("%s is answered with another value", name)
		}
	}
	c.do("GET", "/healthz", "") // so that the server is done with what came before on this connection
	look := func(when string, must ...string) []found {
		t.Helper()
		var finds []found
		c.paused(func() { finds, _ = scan(t, c.cmd.Process.Pid, n) })
		all := names(finds)
		for _, name := range append(must, "planted") {
			if !slices.Contains(all, name) {
				t.Fatalf("%s: %s has to be there, and isn't found: this proves nothing", when, name)
			}
		}
		finds = slices.DeleteFunc(finds, func(f found) bool { return f.name == "planted" })
		keys, values := of(finds, "the DEK"), of(finds, "the value")
		t.Logf("%s: of %d DEKs %d are found, in %d pieces; of %d values %d, in %d pieces",
			when, len(deks), len(names(keys)), len(keys), len(markers), len(names(values)), len(values))
		return finds
	}
	m.judgeFresh(t, of(look("cached", deks...), "the value"))
	vaulttest.Eventually(t, "the cache is empty", func() bool { return c.metric("sealkeep_dek_cache_entries") == 0 })
	m.judgeFresh(t, of(look("evicted"), "the value")) // of DEKs, what is to be collected may be left
	c.collections(func() { c.do("GET", "/healthz", "") })
	m.judge(t, look("collected"))
	c.noise(further)
	m.judge(t, look(fmt.Sprintf("after %d more requests", further)))
}

// judge fails the test for what must not be left, and prints the rest.
func (m mode) judge(t *testing.T, finds []found) {
	t.Helper()
	const shown = 5 // enough to tell whose copies they are
	for i, f := range firsts(finds) {
		if i == shown {
			break
		}
		if strings.HasPrefix(f.name, "the DEK") && m.erasesDEKs || strings.HasPrefix(f.name, "the value") && m.erasesAll {
			t.Errorf("I1: %s", f)
		} else {
			t.Logf("left: %s", f)
		}
	}
}

// interrupted is how many pieces of plaintext may be there while nothing has used their memory again: who interrupts a goroutine (Go's
// asyncPreempt) saves its registers on its stack, with what was being copied through them. A buffer that isn't zeroed leaves one for
// each value.
const interrupted = 4

// judgeFresh is judge right after the values were answered.
func (m mode) judgeFresh(t *testing.T, finds []found) {
	t.Helper()
	if len(finds) <= interrupted {
		m.erasesAll = false
	}
	m.judge(t, finds)
}

// noise sends requests on several connections, that on which everything was sent among them.
func (c *child) noise(requests int) {
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range requests / 4 {
				if _, err := c.try("GET", "/v1/secrets/noise", ""); err != nil {
					c.t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

// localKey is an environment with a fresh local master key, also where tests use AWS KMS.
func localKey(t *testing.T) map[string]string {
	t.Helper()
	environ := maps.Clone(sealkeeptest.KMSEnviron(t))
	if environ["VAULT_KMS_MODE"] != "local" {
		text := make([]byte, 32)
		_, _ = rand.Read(text)
		environ = map[string]string{"VAULT_KMS_MODE": "local", "VAULT_LOCAL_MASTER_KEY": fmt.Sprintf("%x", text)}
	}
	return environ
}
