package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// jsonFlag adds --json.
func jsonFlag(cmd *cobra.Command, to *bool) {
	cmd.Flags().BoolVar(to, "json", false, "print JSON instead of a table")
}

// table prints rows in columns under a heading, or says that there are none.
func table(w io.Writer, heading []string, rows [][]string, none string) error {
	if len(rows) == 0 {
		_, err := fmt.Fprintln(w, none)
		return err
	}
	t := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	fmt.Fprintln(t, strings.ToUpper(strings.Join(heading, "\t")))
	for _, row := range rows {
		for i := range row {
			row[i] = printable(row[i])
		}
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	return t.Flush()
}

// field is one line of a two-column table.
type field struct{ name, text string }

// fields prints what is known of one thing, leaving out what is empty.
func fields(w io.Writer, all ...field) error {
	t := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	for _, f := range all {
		if f.text != "" {
			fmt.Fprintln(t, f.name+"\t"+printable(f.text))
		}
	}
	return t.Flush()
}

// printJSON prints an answer of the server as it is, indented.
func printJSON(w io.Writer, body []byte) error {
	var out bytes.Buffer
	if err := json.Indent(&out, bytes.TrimSpace(body), "", "  "); err != nil {
		return fmt.Errorf("the answer isn't JSON: %w", err)
	}
	out.WriteByte('\n')
	_, err := w.Write(out.Bytes())
	clear(out.Bytes())
	return err
}

// marshalJSON prints a value of ours, indented.
func marshalJSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// printable makes text safe for a terminal: what could move the cursor, change colours or pass for other text is
// escaped as Go escapes it. Text that is harmless stays as it is.
func printable(s string) string {
	if utf8.ValidString(s) && !strings.ContainsFunc(s, notPrintable) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case notPrintable(r):
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		default:
			b.WriteRune(r)
		}
		i += size
	}
	return b.String()
}

func notPrintable(r rune) bool { return !unicode.IsGraphic(r) }

// quoteName puts an argument in quotes, cut to a length that still shows what was meant.
func quoteName(s string) string {
	const limit = 40
	if len(s) > limit {
		s = s[:limit] + "…"
	}
	return strconv.Quote(s)
}

// when shows a time to people; nil is "-".
func when(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

// yesNo shows a flag to people.
func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
