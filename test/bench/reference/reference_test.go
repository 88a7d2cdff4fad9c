package reference

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
)

func TestAValueOpensUnderItsNameAlone(t *testing.T) {
	t.Parallel()
	key := make([]byte, chacha20poly1305.KeySize)
	open, err := newOpener(key)
	if err != nil {
		t.Fatal(err)
	}
	sizes := Sizes{WrappedDEK: 73, Ciphertext: 122, KMSKeyID: 22}
	s := seal(open.aead, "a/name", []byte("value"), sizes)
	if len(s.wrappedDEK) != 73 || len(s.ciphertext) != 122 || len(s.kmsKeyID) != 22 || len(s.nonce) != 24 {
		t.Errorf("%d %d %d %d bytes", len(s.wrappedDEK), len(s.ciphertext), len(s.kmsKeyID), len(s.nonce))
	}
	row := &sealedRow{Nonce: s.nonce, Ciphertext: s.ciphertext}
	if value, err := open.value("a/name", row); err != nil || string(value) != "value" {
		t.Errorf("%q, %v", value, err)
	}
	if value, err := open.value("b/name", row); !errors.Is(err, errDamaged) {
		t.Errorf("%q, %v", value, err)
	}
}

func TestAnAnswerIsJSON(t *testing.T) {
	t.Parallel()
	row := &sealedRow{Kind: "manual", Format: "opaque", Version: 3, CreatedAt: time.Now()}
	var got struct {
		Name, Kind, Format, Value string
		Version                   int
		CreatedAt                 time.Time `json:"created_at"`
	}
	if err := json.Unmarshal(appendSecret(nil, row, "a/name", []byte("value")), &got); err != nil {
		t.Fatal(err)
	}
	if got.Name != "a/name" || got.Kind != "manual" || got.Format != "opaque" || got.Value != "value" || got.Version != 3 || !got.CreatedAt.Equal(row.CreatedAt) {
		t.Errorf("%+v", got)
	}
}

// rounds runs a combiner until the test ends, and notes what each round took.
func rounds(t *testing.T, do func([]int) error, each func(int) error) *combiner[int] {
	t.Helper()
	c := newCombiner[int]()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.run(ctx, func(_ context.Context, round []*ticket[int]) error {
			items := make([]int, len(round))
			for i, ticket := range round {
				items[i] = ticket.item
			}
			return do(items)
		}, each)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return c
}

func TestEveryItemGetsWhatItsOwnRoundCameTo(t *testing.T) {
	t.Parallel()
	odd := errors.New("odd")
	var current []int
	c := rounds(t, func(items []int) error {
		current = items
		return nil
	}, func(i int) error {
		if current[i]%2 == 1 {
			return odd
		}
		return nil
	})
	var all sync.WaitGroup
	for n := range 2000 {
		all.Go(func() {
			if err := c.submit(n); (n%2 == 1) != errors.Is(err, odd) {
				t.Errorf("%d: %v", n, err)
			}
		})
	}
	all.Wait()
}

func TestARoundTakesWhatCameDuringTheOneBeforeAndNoMoreThanItsLimit(t *testing.T) {
	t.Parallel()
	const waiting = maxRound + 10
	began, release := make(chan struct{}), make(chan struct{})
	var sizes []int
	failed := errors.New("failed")
	c := rounds(t, func(items []int) error {
		if sizes = append(sizes, len(items)); len(sizes) == 1 {
			close(began)
			<-release
			return nil
		}
		return failed
	}, nil)
	var all sync.WaitGroup
	all.Go(func() {
		if err := c.submit(0); err != nil {
			t.Error(err)
		}
	})
	<-began
	for range waiting {
		all.Go(func() {
			if err := c.submit(1); !errors.Is(err, failed) {
				t.Error(err)
			}
		})
	}
	for queued := 0; queued < waiting; {
		c.mu.Lock()
		queued = len(c.queued)
		c.mu.Unlock()
		time.Sleep(time.Millisecond)
	}
	close(release)
	all.Wait()
	if want := []int{1, maxRound, 10}; !slices.Equal(sizes, want) {
		t.Errorf("rounds of %v, want %v", sizes, want)
	}
}

// The vault doesn't export its statement, so the source is searched for it.
func TestBareAppendsWithTheVaultsOwnStatement(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("../../../internal/postgres/append.go")
	if err != nil {
		t.Fatal(err)
	}
	words := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	if !strings.Contains(words(string(source)), words(appendSQL)+"`") {
		t.Error("internal/postgres appends with another statement now: take it over")
	}
}
