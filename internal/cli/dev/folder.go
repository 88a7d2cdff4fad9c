package dev

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// InUseError says that another process runs on the folder.
type InUseError struct {
	Dir string
	PID int // 0 if the holder has not said so yet
}

func (e *InUseError) Error() string {
	holder := "another process"
	if e.PID != 0 {
		holder = "process " + strconv.Itoa(e.PID)
	}
	return e.Dir + " is in use by " + holder + ": stop that one, or choose another folder with --dir"
}

// folder is DIR, held by this process.
type folder struct {
	path string // absolute
	lock *os.File
}

// openFolder makes DIR if it is missing, and takes it.
func openFolder(dir string) (*folder, error) {
	path, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("--dir: %w", err)
	}
	if err := checkPrivate(path, 0o022); err != nil {
		return nil, fmt.Errorf("--dir: %w", err)
	}
	f := &folder{path: path}
	if f.lock, err = lock(path, f.file("lock")); err != nil {
		return nil, err
	}
	// It holds keys and tokens, and often lies in somebody's checkout.
	if there, err := f.exists(".gitignore"); err != nil {
		return nil, errors.Join(err, f.lock.Close())
	} else if !there {
		if err := f.write(".gitignore", []byte("*\n")); err != nil {
			return nil, errors.Join(fmt.Errorf("--dir: %w", err), f.lock.Close())
		}
	}
	return f, nil
}

// checkPrivate refuses what others could have put there or could change: a key or a file to source would be theirs. forbidden
// holds the permissions that group and others may not have.
func checkPrivate(path string, forbidden fs.FileMode) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && int(owner.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to another user: choose a folder of your own", path)
	}
	if mode := info.Mode().Perm(); mode&forbidden != 0 {
		advice := "run `chmod go-rwx` on it if nobody else has used it"
		if info.IsDir() {
			advice = "choose a folder of your own" // such as /tmp: the whole machine needs its mode as it is
		}
		return fmt.Errorf("%s is open to other users (mode %04o): %s", path, mode, advice)
	}
	return nil
}

// close gives the folder up.
func (f *folder) close() {
	// A process that is being started at this moment holds the file until it has become another program; the lock is not
	// to wait for that.
	_ = syscall.Flock(int(f.lock.Fd()), syscall.LOCK_UN)
	_ = f.lock.Close() // nothing was written that could be lost
}

func (f *folder) file(name string) string { return filepath.Join(f.path, name) }

// lock takes a lock that the kernel drops when this process ends, however it ends; no child inherits it.
func lock(dir, path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("--dir: %w", err)
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		holder := make([]byte, 32)
		n, _ := file.ReadAt(holder, 0)
		pid, _ := strconv.Atoi(strings.TrimSpace(string(holder[:n])))
		_ = file.Close() // opened to be read alone
		return nil, &InUseError{Dir: dir, PID: pid}
	case err != nil:
		return nil, errors.Join(fmt.Errorf("locking %s: %w", path, err), file.Close())
	}
	if err = file.Truncate(0); err == nil {
		_, err = file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// exists tells whether there is such a file in DIR.
func (f *folder) exists(name string) (bool, error) {
	_, err := os.Lstat(f.file(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// write makes or replaces a file of DIR as a whole, with mode 0600. When it returns, the file survives a power failure.
func (f *folder) write(name string, content []byte) error {
	// CreateTemp makes files with mode 0600.
	file, err := os.CreateTemp(f.path, "."+name+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), f.file(name)); err != nil {
		return err
	}
	return syncFolder(f.path)
}

// syncFolder makes the names in a folder durable.
func syncFolder(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
