package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// terminal gives the terminal behind a stream, if it is one.
func terminal(stream any) (*os.File, bool) {
	f, ok := stream.(*os.File)
	return f, ok && f != nil && term.IsTerminal(int(f.Fd()))
}

// promptHidden asks for a line that is not shown as it is typed. The question goes to Stderr, so that Stdout can be
// redirected. The caller releases the answer.
func (a *app) promptHidden(ctx context.Context, in *os.File, question string) (sensitive.Bytes, error) {
	fd := int(in.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return sensitive.Bytes{}, fmt.Errorf("the terminal: %w", err)
	}
	fmt.Fprint(a.Stderr, question)
	type outcome struct {
		line []byte
		err  error
	}
	read := make(chan outcome, 1)
	go func() {
		line, err := term.ReadPassword(fd)
		read <- outcome{line, err}
	}()
	select {
	case o := <-read:
		fmt.Fprintln(a.Stderr)
		if o.err != nil && !errors.Is(o.err, io.EOF) {
			return sensitive.Bytes{}, fmt.Errorf("reading from the terminal: %w", o.err)
		}
		return sensitive.Take(o.line), nil
	case <-ctx.Done():
		// The read can't be ended; the program is about to. Leave the terminal as it was.
		_ = term.Restore(fd, before)
		fmt.Fprintln(a.Stderr)
		return sensitive.Bytes{}, ctx.Err()
	}
}

// confirmName has the user type a name again before it is destroyed.
func (a *app) confirmName(ctx context.Context, name, consequence string) error {
	in, ok := terminal(a.Stdin)
	if !ok {
		return usage("standard input is not a terminal, so nobody can confirm this: give --yes")
	}
	fmt.Fprintf(a.Stderr, "%s\nType its name again to go on: ", consequence)
	typed, err := readLine(ctx, in)
	if err != nil {
		return err
	}
	if strings.TrimSpace(typed) != name {
		return errors.New("that is not its name; nothing was done")
	}
	return nil
}

// readLine reads one line byte by byte, so that it takes nothing beyond it.
func readLine(ctx context.Context, in io.Reader) (string, error) {
	type outcome struct {
		line string
		err  error
	}
	read := make(chan outcome, 1)
	go func() {
		var line []byte
		one := make([]byte, 1)
		for len(line) < 4096 {
			n, err := in.Read(one)
			if n == 1 && one[0] == '\n' {
				break
			}
			line = append(line, one[:n]...)
			if err != nil {
				if !errors.Is(err, io.EOF) {
					read <- outcome{"", err}
					return
				}
				break
			}
		}
		read <- outcome{string(line), nil}
	}()
	select {
	case o := <-read:
		return o.line, o.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}
