package secret

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sealkeep/sealkeep/internal/fault"
)

func TestSettingsValidate(t *testing.T) {
	t.Parallel()
	pairs := func(n int) map[string]string {
		m := map[string]string{}
		for i := range n {
			m[fmt.Sprintf("key%d", i)] = "v"
		}
		return m
	}

	for claim, s := range map[string]Settings{
		"a manual secret":                     {Kind: Manual},
		"a manual secret with a grace":        {Kind: Manual, GracePeriod: time.Hour},
		"the shortest interval":               {Kind: Automatic, RotationInterval: time.Second},
		"the longest interval":                {Kind: Automatic, RotationInterval: 3650 * 24 * time.Hour},
		"the longest grace":                   {Kind: Automatic, RotationInterval: time.Hour, GracePeriod: 366 * 24 * time.Hour},
		"a grace longer than the interval":    {Kind: Automatic, RotationInterval: time.Second, GracePeriod: time.Hour},
		"a description of 1024 bytes":         {Kind: Manual, Description: strings.Repeat("d", 1024)},
		"a description beyond ASCII":          {Kind: Manual, Description: "für die Datenbank 本番　用 🔑"},
		"64 keys":                             {Kind: Manual, CustomMetadata: pairs(64)},
		"the longest key and value":           {Kind: Manual, CustomMetadata: map[string]string{strings.Repeat("k", 128): strings.Repeat("v", 512)}},
		"an empty value and one with a break": {Kind: Manual, CustomMetadata: map[string]string{"a": "", "b": "x\ny\tz", "ключ": "é"}},
	} {
		t.Run("accepts "+claim, func(t *testing.T) {
			t.Parallel()
			if err := s.Validate(); err != nil {
				t.Error(err)
			}
		})
	}

	for claim, c := range map[string]struct {
		s    Settings
		says string
	}{
		"the zero value":                           {Settings{}, "kind must be"},
		"an unknown kind":                          {Settings{Kind: "dynamic"}, "kind must be"},
		"a manual secret with an interval":         {Settings{Kind: Manual, RotationInterval: time.Hour}, "a manual secret has no rotation_interval_secs"},
		"an automatic secret without one":          {Settings{Kind: Automatic}, "an automatic secret needs rotation_interval_secs"},
		"an interval under a second":               {Settings{Kind: Automatic, RotationInterval: time.Second - 1}, "rotation_interval_secs must be"},
		"an interval of broken seconds":            {Settings{Kind: Automatic, RotationInterval: 1500 * time.Millisecond}, "rotation_interval_secs must be"},
		"a negative interval":                      {Settings{Kind: Automatic, RotationInterval: -time.Hour}, "rotation_interval_secs must be"},
		"a negative interval for a manual secret":  {Settings{Kind: Manual, RotationInterval: -time.Hour}, "a manual secret has no"},
		"an interval of 10 years and a second":     {Settings{Kind: Automatic, RotationInterval: MaxRotationInterval + time.Second}, "rotation_interval_secs must be"},
		"a negative grace":                         {Settings{Kind: Manual, GracePeriod: -time.Second}, "grace_period_secs must be"},
		"a grace of broken seconds":                {Settings{Kind: Manual, GracePeriod: 1}, "grace_period_secs must be"},
		"a grace of 366 days and a second":         {Settings{Kind: Manual, GracePeriod: MaxGracePeriod + time.Second}, "grace_period_secs must be"},
		"a description of 1025 bytes":              {Settings{Kind: Manual, Description: strings.Repeat("d", 1025)}, "description must be at most"},
		"a description of two lines":               {Settings{Kind: Manual, Description: "a\nb"}, "description must be printable"},
		"a description with an escape":             {Settings{Kind: Manual, Description: "a\x1b[2J"}, "description must be printable"},
		"a description that turns its text around": {Settings{Kind: Manual, Description: "a\u202eb"}, "description must be printable"},
		"a description that is not UTF-8":          {Settings{Kind: Manual, Description: "a\xff"}, "description must be printable"},
		"65 keys":                                  {Settings{Kind: Manual, CustomMetadata: pairs(65)}, "at most 64 keys"},
		"an empty key":                             {Settings{Kind: Manual, CustomMetadata: map[string]string{"": "v"}}, "keys must be 1 to 128 bytes"},
		"a key of 129 bytes":                       {Settings{Kind: Manual, CustomMetadata: map[string]string{strings.Repeat("k", 129): "v"}}, "keys must be 1 to 128 bytes"},
		"a key with a break":                       {Settings{Kind: Manual, CustomMetadata: map[string]string{"k\n": "v"}}, "keys must be UTF-8"},
		"a key that is not UTF-8":                  {Settings{Kind: Manual, CustomMetadata: map[string]string{"k\xff": "v"}}, "keys must be UTF-8"},
		"a value of 513 bytes":                     {Settings{Kind: Manual, CustomMetadata: map[string]string{"k": strings.Repeat("v", 513)}}, "values must be at most 512 bytes"},
		"a value with NUL":                         {Settings{Kind: Manual, CustomMetadata: map[string]string{"k": "v\x00"}}, "values must be UTF-8"},
		"a value that is not UTF-8":                {Settings{Kind: Manual, CustomMetadata: map[string]string{"k": "v\xff"}}, "values must be UTF-8"},
	} {
		t.Run("refuses "+claim, func(t *testing.T) {
			t.Parallel()
			if message := wantFault(t, c.s.Validate(), fault.Invalid); !strings.Contains(message, c.says) {
				t.Errorf("%q is not in: %s", c.says, message)
			}
		})
	}

	t.Run("the same input always gives the same message", func(t *testing.T) {
		t.Parallel()
		s := Settings{Kind: Manual, CustomMetadata: map[string]string{"": "v", "k\n": "v", "z": "v\x00", "y": strings.Repeat("v", 513)}}
		first := s.Validate().Error()
		for range 50 {
			if again := s.Validate().Error(); again != first {
				t.Fatalf("%s, then %s", first, again)
			}
		}
	})
}

func TestI11_SettingsErrorsDoNotRepeatTheInput(t *testing.T) {
	t.Parallel()
	const canary = "hunter2canary"
	for _, s := range []Settings{
		{Kind: canary},
		{Kind: Manual, Description: canary + "\n"},
		{Kind: Manual, CustomMetadata: map[string]string{canary + "\n": "v"}},
		{Kind: Manual, CustomMetadata: map[string]string{canary: canary + "\x00"}},
	} {
		if err := s.Validate(); err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("Validate: %v", err)
		}
	}
}
