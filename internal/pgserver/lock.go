package pgserver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// InUseError says that another process of ours holds the data folder.
type InUseError struct {
	Dir string // the folder that Start was given
	PID int    // the holder; 0 if it has not said so yet
}

func (e *InUseError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("the PostgreSQL data in %s is in use by another process", e.Dir)
	}
	return fmt.Sprintf("the PostgreSQL data in %s is in use by process %d", e.Dir, e.PID)
}

// lockFolder takes the lock of a folder. The kernel drops it when the file is closed or this process ends,
// however it ends, and no child inherits it.
func lockFolder(p place) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(p.home, "postgres.lock"), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("locking %s: %w", f.Name(), err)
		}
		holder := make([]byte, 32)
		n, _ := f.ReadAt(holder, 0)
		pid, _ := strconv.Atoi(strings.TrimSpace(string(holder[:n])))
		return nil, &InUseError{Dir: p.dir, PID: pid}
	}
	if err := f.Truncate(0); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if _, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
