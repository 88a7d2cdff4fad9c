package vault

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/sealkeep/sealkeep/internal/postgres/db"
)

// What the trail tells of a secret takes some hundred bytes, however often it changed.
func TestTold_IsBoundedBySecretsAndNotByRecords(t *testing.T) {
	const secrets, changes = 20_000, 5
	held := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := held()
	told := newTold()
	for i := range secrets {
		name := fmt.Sprintf("service-%d/some/secret", i)
		id := uuid.New()
		for revision := int64(changes); revision > 0; revision-- { // in any order
			version := revision
			told.hear(&db.RecordsRow{
				Action: ActionRotate, Outcome: outcomeOK, SecretName: &name, Version: &version,
				Detail: []byte(fmt.Sprintf(`{"disclosed":true,"secret_id":%q,"revision":%d}`, id, revision)),
			}, true)
		}
		if got := told.secrets[id]; got.made.n != changes || got.revision != changes || got.version != changes || got.name != name {
			t.Fatalf("%+v", got)
		}
	}
	if each := (held() - before) / secrets; each > 400 {
		t.Errorf("%d bytes for each secret", each)
	}
	runtime.KeepAlive(told)
	if told.vague != 0 {
		t.Errorf("%d records were not understood", told.vague)
	}
}

// What was made twice is named, in whatever order it is heard.
func TestMade_NamesWhatWasMadeTwice(t *testing.T) {
	const late = 1_764_493_435_000_000 // as an epoch is when all grants were given up
	for _, base := range []int64{0, late} {
		for name, c := range map[string]struct {
			runs [][2]int64
			want string
		}{
			"each once":        {[][2]int64{{1, 40}}, ""},
			"the last":         {[][2]int64{{1, 2}, {2, 2}}, "number 2 was made twice"},
			"the first":        {[][2]int64{{1, 7}, {1, 1}}, "number 1 was made twice"},
			"one of many":      {[][2]int64{{1, 1000}, {400, 400}}, "number 400 was made twice"},
			"and written on":   {[][2]int64{{1, 10}, {6, 30}}, "numbers 6 to 10 were made twice"},
			"less than before": {[][2]int64{{1, 10}, {4, 6}}, "numbers 4 to 6 were made twice"},
			"days that went":   {[][2]int64{{90, 120}, {100, 130}}, "numbers 100 to 120 were made twice"},
			"twice, apart":     {[][2]int64{{1, 10}, {3, 3}, {7, 7}}, "2 numbers were made that had been made before"},
			// Their sum is that of 3 and 4, and their squares' isn't.
			"as if it were two between": {[][2]int64{{1, 7}, {2, 2}, {5, 5}}, "2 numbers were made that had been made before"},
			"three times":               {[][2]int64{{1, 10}, {5, 5}, {5, 5}}, "2 numbers were made that had been made before"},
			"one that wasn't heard":     {[][2]int64{{1, 4}, {6, 10}}, ""},
			"apart, the middle empty":   {[][2]int64{{1, 10}, {4, 4}, {5, 5}, {7, 7}, {8, 8}}, "4 numbers were made that had been made before"},
		} {
			var numbers []int64
			for _, run := range c.runs {
				for n := run[0]; n <= run[1]; n++ {
					numbers = append(numbers, n)
				}
			}
			rand.Shuffle(len(numbers), func(i, j int) { numbers[i], numbers[j] = numbers[j], numbers[i] })
			var m made
			for _, n := range numbers {
				m.hear(n + base)
			}
			if base != 0 {
				from, n := m.again()
				if from != 0 {
					from -= base
				}
				m = made{}
				for _, n := range numbers {
					m.hear(n)
				}
				if wantFrom, wantN := m.again(); from != wantFrom || n != wantN {
					t.Errorf("%s, late: %d from %d", name, n, from)
				}
				continue
			}
			if got := m.madeTwice("number", "numbers"); got != c.want {
				t.Errorf("%s: %q, want %q", name, got, c.want)
			}
		}
	}
}

// Between the epochs before and after all grants were given up lies a gap, which hides nothing.
func TestEpochs_AreCountedApartWhereGrantsWereGivenUp(t *testing.T) {
	const first, second = 1_764_493_435_000_000, 1_764_499_999_000_000
	heard := []int64{1, 2, 3, 3, 4, first, first + 1, first + 2, second, second + 1, second + 1}
	for range 20 {
		rand.Shuffle(len(heard), func(i, j int) { heard[i], heard[j] = heard[j], heard[i] })
		var e epochs
		for _, epoch := range heard {
			e.hear(epoch)
		}
		var twice []string
		for i := range e {
			if text := e[i].madeTwice("epoch", "epochs"); text != "" {
				twice = append(twice, text)
			}
		}
		slices.Sort(twice)
		if want := []string{fmt.Sprintf("epoch %d was made twice", int64(second+1)), "epoch 3 was made twice"}; len(e) != 3 || !slices.Equal(twice, want) {
			t.Fatalf("%d spans: %q", len(e), twice)
		}
	}
}
