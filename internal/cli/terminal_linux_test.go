package cli

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openTerminal makes a pseudo-terminal: what is written to keyboard is typed at screen.
func openTerminal(t *testing.T) (keyboard, screen *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("this machine has no pseudo-terminals: %v", err)
	}
	t.Cleanup(func() { _ = keyboard.Close() })
	raw, err := keyboard.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var number int
	var failed error
	if err := raw.Control(func(fd uintptr) {
		if failed = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); failed == nil {
			number, failed = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	}); err != nil || failed != nil {
		t.Skipf("this machine has no pseudo-terminals: %v %v", err, failed)
	}
	screen, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("this machine has no pseudo-terminals: %v", err)
	}
	t.Cleanup(func() { _ = screen.Close() })
	return keyboard, screen
}

func typeIn(t *testing.T, keyboard *os.File, text string) {
	t.Helper()
	if _, err := keyboard.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// What is typed before the question is asked would be echoed by the terminal itself; the tests type it all the same, as
// they look at what is sent, and at the terminal's settings afterwards.
func TestTerminal_ValueIsAskedForAndNotShown(t *testing.T) {
	t.Parallel()
	server := newAnswering(t, 201, nil, created)
	keyboard, screen := openTerminal(t)
	typeIn(t, keyboard, "from the keyboard\n")
	server.shell(t).read(screen, "secret", "create", "a/b").ok().says("Value of a/b: ").hides("from the keyboard")
	if got := server.sent(t)["value"]; got != "from the keyboard" {
		t.Errorf("sent %q", got)
	}
	typeIn(t, keyboard, "pw\n")
	server.shell(t).read(screen, "secret", "put", "a/b", "--username", "app").ok().says("Password: ")
	if got := server.sent(t)["password"]; got != "pw" {
		t.Errorf("sent %q", got)
	}
	typeIn(t, keyboard, "\n")
	server.shell(t).read(screen, "secret", "create", "a/b").ends(1).says("the value is empty")
}

func TestTerminal_InterruptedQuestionLeavesItAsItWas(t *testing.T) {
	t.Parallel()
	keyboard, screen := openTerminal(t)
	settings := func() unix.Termios {
		s, err := unix.IoctlGetTermios(int(screen.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		return *s
	}
	before := settings()
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan struct{})
	var stderr strings.Builder
	done := make(chan int)
	go func() {
		done <- Run(ctx, Invocation{
			Program: "sealkeep", Args: []string{"secret", "create", "a/b"}, Stdin: screen, Stdout: &strings.Builder{},
			Stderr: writerFunc(func(p []byte) (int, error) {
				if strings.Contains(string(p), "Value of") {
					close(asked)
				}
				return stderr.Write(p)
			}),
		})
	}()
	<-asked
	for settings().Lflag == before.Lflag { // until what is typed isn't shown any more
		time.Sleep(time.Millisecond)
	}
	cancel()
	if status := <-done; status != statusFailed || !strings.Contains(stderr.String(), "interrupted") {
		t.Errorf("status %d: %s", status, stderr.String())
	}
	if settings().Lflag != before.Lflag {
		t.Error("the terminal is not as it was")
	}
	typeIn(t, keyboard, "\n") // ends the read that is still waiting
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestTerminal_DeletingAsksForTheName(t *testing.T) {
	t.Parallel()
	server := newAnswering(t, 204, nil, "")
	sh := server.shell(t)
	keyboard, screen := openTerminal(t)
	typeIn(t, keyboard, "a\n")
	sh.read(screen, "secret", "rm", "a/b").ends(1).says("deletes secret a/b and all its versions", "that is not its name; nothing was done")
	if n := server.calls.Load(); n != 0 {
		t.Fatalf("%d requests were sent", n)
	}
	typeIn(t, keyboard, "a/b\n")
	sh.read(screen, "secret", "rm", "a/b").ok().shows("deleted a/b")
	sh.pipe("a/b\n", "secret", "rm", "a/b").ends(2).says("give --yes")
	sh.pipe("", "secret", "rm", "a/b", "--yes").ok()
}
