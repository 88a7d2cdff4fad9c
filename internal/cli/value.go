package cli

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/sealkeep/sealkeep/internal/secret"
	"github.com/sealkeep/sealkeep/internal/sensitive"
)

const valueHelp = `The value comes from standard input, or from a file with --value-file; on a terminal it is asked for and not shown. From
standard input one newline at the end of text is left out, unless --exact is given; a file's bytes are taken as they are.
What isn't text is sent as value_base64 by itself.`

// valueFlags say where a value, or a user name and a password, come from.
type valueFlags struct {
	file         string // "-" is standard input, "" the default of the command
	exact        bool
	username     string
	usernameFile string
}

func (f *valueFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.file, "value-file", "", "take the value from `FILE`; - is standard input")
	cmd.Flags().BoolVar(&f.exact, "exact", false, "keep a newline at the end of standard input")
}

func (f *valueFlags) addUsername(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.username, "username", "", "the user name of a userpass secret; the value is then its password")
	cmd.Flags().StringVar(&f.usernameFile, "username-file", "", "take the user name from `FILE`, which hides it from process lists")
}

// material is what a secret is given. Its owner releases it.
type material struct {
	value    sensitive.Bytes // zero when none was given
	username sensitive.Bytes // zero unless it is for a userpass secret
}

func (m *material) release() {
	m.value.Release()
	m.username.Release()
}

// readMaterial reads the user name, if one is given, and the value if it is wanted.
func (a *app) readMaterial(ctx context.Context, f valueFlags, wantValue bool, question string) (m material, err error) {
	switch {
	case f.username != "" && f.usernameFile != "":
		return m, usage("give --username or --username-file, not both")
	case f.username != "":
		m.username = sensitive.CopyString(f.username)
	case f.usernameFile != "":
		content, err := readFile(f.usernameFile)
		if err != nil {
			return m, fmt.Errorf("--username-file: %w", err)
		}
		m.username = sensitive.Take(bytes.TrimRight(content, "\r\n"))
	}
	if !wantValue {
		return m, nil
	}
	if !m.username.IsZero() {
		question = "Password: "
	}
	if m.value, err = a.readValue(ctx, f, question); err != nil {
		m.release()
	}
	return m, err
}

// readValue reads one value. The caller releases it.
func (a *app) readValue(ctx context.Context, f valueFlags, question string) (sensitive.Bytes, error) {
	if f.file != "" && f.file != "-" {
		return a.valueOfFile(f.file)
	}
	if in, ok := terminal(a.Stdin); ok && f.file == "" {
		value, err := a.promptHidden(ctx, in, question)
		if err == nil && value.Len() == 0 {
			err = errors.New("the value is empty")
		}
		return value, err
	}
	content, err := readLimited(a.Stdin)
	if err != nil {
		return sensitive.Bytes{}, fmt.Errorf("the value from standard input: %w", err)
	}
	if !f.exact {
		content = trimNewline(content)
	}
	if len(content) == 0 {
		return sensitive.Bytes{}, errors.New("the value from standard input is empty: pipe it in, or give --value-file FILE")
	}
	return sensitive.Take(content), nil
}

// refusePiped refuses a value on standard input where none is read: whoever piped it in would believe that it is set. It
// waits for the first byte or the end, as a pipe's writer may be slow; a terminal isn't read.
func (a *app) refusePiped(ctx context.Context) error {
	if _, ok := terminal(a.Stdin); ok {
		return nil
	}
	type outcome struct {
		n   int
		err error
	}
	read := make(chan outcome, 1)
	go func() {
		one := make([]byte, 1)
		n, err := io.ReadFull(a.Stdin, one)
		clear(one)
		read <- outcome{n, err}
	}()
	select {
	case o := <-read:
		if o.n > 0 {
			return usage("a value was piped in beside settings: give --value-file - to set it")
		}
		if !errors.Is(o.err, io.EOF) {
			return fmt.Errorf("standard input: %w", o.err)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (a *app) valueOfFile(name string) (sensitive.Bytes, error) {
	content, err := readFile(name)
	if err != nil {
		return sensitive.Bytes{}, fmt.Errorf("--value-file: %w", err)
	}
	if len(content) == 0 {
		return sensitive.Bytes{}, fmt.Errorf("--value-file: %s is empty", name)
	}
	if i := bytes.IndexByte(content, '\n'); i == len(content)-1 && isText(content) {
		fmt.Fprintf(a.Stderr, "note: %s is one line, and the newline at its end is part of the value; `--value-file - <%s` leaves it out\n",
			printable(name), printable(name))
	}
	return sensitive.Take(content), nil
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readLimited(f)
}

// readLimited reads to the end into one buffer that never moves, so that no copies stay behind.
func readLimited(r io.Reader) ([]byte, error) {
	buffer := make([]byte, secret.MaxValueBytes+3) // a newline more is fine, as it may be left out
	n, err := io.ReadFull(r, buffer)
	switch {
	case err == nil:
		clear(buffer)
		return nil, fmt.Errorf("it is longer than %d bytes", secret.MaxValueBytes)
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return buffer[:n], nil
	}
	clear(buffer)
	return nil, err
}

// trimNewline leaves out one line ending at the end of text.
func trimNewline(b []byte) []byte {
	if !isText(b) {
		return b
	}
	if trimmed, found := bytes.CutSuffix(b, []byte("\r\n")); found {
		return trimmed
	}
	return bytes.TrimSuffix(b, []byte("\n"))
}

// isText tells whether the API takes b as "value"; anything else is sent as "value_base64".
func isText(b []byte) bool { return utf8.Valid(b) && bytes.IndexByte(b, 0) < 0 }

// addTo adds the material to a JSON object under construction.
func (m *material) addTo(o *object) error {
	switch {
	case !m.username.IsZero():
		if !isText(m.username.Reveal()) {
			return errors.New("the user name isn't text (UTF-8 without NUL)")
		}
		o.secretText("username", m.username.Reveal())
		if m.value.IsZero() {
			return nil
		}
		if !isText(m.value.Reveal()) {
			return errors.New("the password isn't text (UTF-8 without NUL), which a userpass secret needs")
		}
		o.secretText("password", m.value.Reveal())
	case !m.value.IsZero():
		o.secretValue(m.value.Reveal())
	}
	return nil
}

// decodeBase64 reads standard base64 with padding (RFC 4648, section 4), as the API writes it.
func decodeBase64(text []byte) ([]byte, error) {
	out := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(out, text)
	if err != nil {
		return nil, errors.New("value_base64 of the answer isn't base64")
	}
	return out[:n], nil
}

// addPasswordTo adds the value as the password of a userpass secret, without a user name.
func (m *material) addPasswordTo(o *object) error {
	switch {
	case !m.username.IsZero():
		return usage("give --as-password or a user name, not both: with a user name the value is the password anyway")
	case m.value.IsZero():
		return nil
	case !isText(m.value.Reveal()):
		return errors.New("the password isn't text (UTF-8 without NUL), which a userpass secret needs")
	}
	o.secretText("password", m.value.Reveal())
	return nil
}
