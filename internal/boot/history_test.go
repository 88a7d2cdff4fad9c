package boot

import (
	"strings"
	"testing"
)

func TestHistory_ADatabaseThatLooksRestoredIsWarnedOf(t *testing.T) {
	t.Parallel()
	const (
		moved = "the database was restored or failed over"
		old   = "the newest audit record is old"
	)
	for name, c := range map[string]struct {
		edit       string
		moved, old bool
	}{
		"as it was left":        {"", false, false},
		"on another server":     {"UPDATE vault.audit_streams SET system_id = '1'", true, false},
		"on another timeline":   {"UPDATE vault.audit_streams SET timeline = timeline + 1", true, false},
		"of the day before":     {"UPDATE vault.audit_streams SET head_at = head_at - interval '25 hours'", false, true},
		"without any stream":    {"ALTER TABLE vault.audit_streams DISABLE TRIGGER kept; DELETE FROM vault.audit_streams", false, false},
		"of a few hours before": {"UPDATE vault.audit_streams SET head_at = head_at - interval '5 hours'", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := initialised(t)
			if c.edit != "" {
				d.Exec(t, c.edit)
			}
			var out log
			p, err := NewAPI(t.Context(), loadAPI(t, environ(d.URL("sealkeep_api"), nil)), out.logger())
			if err != nil {
				t.Fatal(err)
			}
			p.Close()
			text := out.String()
			if got := strings.Contains(text, moved); got != c.moved {
				t.Errorf("moved: %v\n%s", got, text)
			}
			if got := strings.Contains(text, old); got != c.old {
				t.Errorf("old: %v\n%s", got, text)
			}
			empty := name == "without any stream"
			if strings.Contains(text, "the audit trail is empty") != empty || strings.Contains(text, `"grants_epoch":1`) == false {
				t.Error(text)
			}
		})
	}
}
