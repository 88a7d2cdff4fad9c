package dev

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestFolder_SecondOneIsToldWhoHoldsIt(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "dir")
	f, err := openFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	var inUse *InUseError
	if _, err := openFolder(dir); !errors.As(err, &inUse) || inUse.PID != os.Getpid() || !strings.Contains(err.Error(), "--dir") {
		t.Errorf("a second one got %v", err)
	}
	f.close()
	again, err := openFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	again.close()
}

func TestFolder_OneThatOthersCanWriteIsRefused(t *testing.T) {
	t.Parallel()
	open := filepath.Join(t.TempDir(), "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []os.FileMode{0o777, 0o770, 0o702} {
		if err := os.Chmod(open, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := openFolder(open); err == nil || strings.Contains(err.Error(), "chmod") ||
			!strings.Contains(err.Error(), "open to other users") || !strings.Contains(err.Error(), "choose a folder of your own") {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	if os.Geteuid() == 0 {
		theirs := filepath.Join(t.TempDir(), "theirs")
		if err := errors.Join(os.Mkdir(theirs, 0o700), os.Chown(theirs, 65534, -1)); err != nil {
			t.Fatal(err)
		}
		if _, err := openFolder(theirs); err == nil || !strings.Contains(err.Error(), "another user") {
			t.Errorf("another user's folder: %v", err)
		}
	}
}

func TestMasterKeyThatOthersCanReadIsRefused(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "master-key")
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := prepareMasterKey(path, nil, false); err != nil {
		t.Error(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := prepareMasterKey(path, nil, false); err == nil || !strings.Contains(err.Error(), "chmod") {
		t.Errorf("a key that everybody can read: %v", err)
	}
}

func TestFolder_IsPrivateAndItsFilesAreToo(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "dir")
	f, err := openFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	for range 2 {
		if err := f.write("admin-token", []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]os.FileMode{".": 0o700, "admin-token": 0o600, "lock": 0o600, ".gitignore": 0o600}
	for name, mode := range want {
		if info, err := os.Stat(f.file(name)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v %v", name, info.Mode(), err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 3 {
		t.Errorf("left behind: %v %v", entries, err)
	}
}

func TestPrepareMasterKey_NeverReplacesTheKeyOfAVault(t *testing.T) {
	t.Parallel()
	f, err := openFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	path := f.file("master-key")
	if err := prepareMasterKey(path, f, true); err == nil || !strings.Contains(err.Error(), "put it back") {
		t.Errorf("a vault without its key: %v", err)
	}
	if err := prepareMasterKey(path, f, false); err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(path)
	if err != nil || len(first) < 40 {
		t.Fatalf("%d bytes, %v", len(first), err)
	}
	for _, initialised := range []bool{false, true} {
		if err := prepareMasterKey(path, f, initialised); err != nil {
			t.Error(err)
		}
	}
	if again, err := os.ReadFile(path); err != nil || string(again) != string(first) {
		t.Errorf("the key changed: %v", err)
	}
}

// A child of a parent that was killed must not hold on to anything: the test kills a shell that started one.
func TestLock_DiesWithItsProcess(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("flock"); err != nil {
		t.Skip("this machine has no flock(1)")
	}
	dir := t.TempDir()
	cmd := exec.Command("flock", "--no-fork", filepath.Join(dir, "lock"), "sh", "-c", "echo held; exec cat")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "held\n" {
		t.Fatalf("%q %v", line, err)
	}
	if _, err := openFolder(dir); err == nil {
		t.Error("took a folder that is held")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	f, err := openFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	f.close()
}
