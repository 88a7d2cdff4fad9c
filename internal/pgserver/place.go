package pgserver

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// place is where one server keeps its files.
type place struct {
	dir       string // resolved Config.Dir, or a temporary folder
	home      string // holds data and the lock; dir, or a folder outside that the account can reach
	data      string // home/data, without symbolic links
	link      string // dir/data where home is outside, to be made when data exists; else ""
	temporary bool
}

// publicParents are where a folder for data goes when root runs us in a folder that the server's account
// can't enter. Only root can write to them, so nobody can be there first.
var publicParents = []string{"/var/lib/sealkeep-dev", "/srv/sealkeep-dev", "/opt/sealkeep-dev"}

// findPlace decides where the files go and makes the folders, but not the data folder itself. It may change
// the account: data that exists is served by its owner.
func findPlace(dir string, a account) (place, account, error) {
	if dir == "" {
		p, err := temporaryPlace(a)
		return p, a, err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return place{}, a, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return place{}, a, err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return place{}, a, err
	}
	named := filepath.Join(dir, "data")
	data, err := filepath.EvalSymlinks(named)
	switch {
	case err == nil:
		return existingPlace(dir, data, a)
	case !errors.Is(err, fs.ErrNotExist):
		return place{}, a, err
	case a.reaches(dir):
		return place{dir: dir, home: dir, data: named}, a, nil
	}
	home, err := outsideHome(dir, a)
	return place{dir: dir, home: home, data: filepath.Join(home, "data"), link: named}, a, err
}

// memoryParent is a file system in memory, used for temporary data when it has room for memoryRoom bytes and
// nobody asked for another place by TMPDIR: what is thrown away need not be written.
const (
	memoryParent = "/dev/shm"
	memoryRoom   = 2 << 30
)

func temporaryPlace(a account) (place, error) {
	parents := []string{os.TempDir(), "/tmp", "/var/tmp"}
	var stat unix.Statfs_t
	if os.Getenv("TMPDIR") == "" && unix.Statfs(memoryParent, &stat) == nil &&
		float64(stat.Bavail)*float64(stat.Bsize) >= memoryRoom {
		parents = append([]string{memoryParent}, parents...)
	}
	dir, err := temporaryFolder(a, parents...)
	if err != nil {
		return place{}, err
	}
	if a.other {
		// The account passes through to its data folder, and can list nothing here.
		if err := os.Chmod(dir, 0o711); err != nil { //nolint:gosec // others may pass through, not look
			return place{}, errors.Join(err, os.RemoveAll(dir))
		}
	}
	return place{dir: dir, home: dir, data: filepath.Join(dir, "data"), temporary: true}, nil
}

func existingPlace(dir, data string, a account) (place, account, error) {
	p := place{dir: dir, home: filepath.Dir(data), data: data}
	info, err := os.Stat(data)
	if err != nil {
		return p, a, err
	}
	owner, err := ownerOf(info)
	switch {
	case err != nil:
		return p, a, err
	case !a.other && owner.uid != a.uid:
		return p, a, fmt.Errorf("the PostgreSQL data in %s belongs to user %s: run this as that user or as root", data, owner.name)
	case a.other && owner.uid != 0:
		a = owner
	case a.other:
		return p, a, fmt.Errorf("the folder %s belongs to root, so PostgreSQL can't use it: remove it if it is empty", data)
	}
	if !a.reaches(data) {
		return p, a, fmt.Errorf("user %s, who owns the PostgreSQL data in %s, can't enter that folder", a.name, data)
	}
	return p, a, nil
}

// outsideHome makes the folder for the data of dir in a place that the account can reach.
func outsideHome(dir string, a account) (string, error) {
	sum := sha256.Sum256([]byte(dir))
	var last error
	for _, parent := range publicParents {
		if last = makeRootOwned(parent); last != nil {
			continue
		}
		home := filepath.Join(parent, hex.EncodeToString(sum[:8]))
		if last = makeRootOwned(home); last == nil && a.reaches(home) {
			return home, nil
		}
	}
	return "", fmt.Errorf("PostgreSQL does not run as root, user %s can't enter %s, and no folder outside could be made: %w",
		a.name, dir, errors.Join(last, fs.ErrPermission))
}

// makeRootOwned makes a folder that others may pass through, and refuses one that somebody else made.
func makeRootOwned(dir string) error {
	if err := os.Mkdir(dir, 0o711); err != nil && !errors.Is(err, fs.ErrExist) { //nolint:gosec // as above
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || !info.IsDir() || stat.Uid != 0 {
		return fmt.Errorf("%s is not a folder of root", dir)
	}
	return os.Chmod(dir, 0o711) //nolint:gosec // as above
}

// temporaryFolder makes a folder in the first parent that the account can enter.
func temporaryFolder(a account, parents ...string) (string, error) {
	last := fs.ErrPermission
	for _, parent := range parents {
		parent, err := filepath.Abs(parent)
		if err == nil {
			parent, err = filepath.EvalSymlinks(parent)
		}
		if err == nil && a.reaches(parent) {
			var dir string
			if dir, err = os.MkdirTemp(parent, "sealkeep-pg-"); err == nil {
				return dir, nil
			}
		}
		if err != nil {
			last = err
		}
	}
	return "", fmt.Errorf("no temporary folder that user %s can enter: %w", a.name, last)
}

// makeSocketFolder returns the folder for the socket, and whether Start made it and so removes it.
func makeSocketFolder(dir string, p place, a account) (string, bool, error) {
	if dir != "" {
		dir, err := filepath.Abs(dir)
		if err != nil {
			return "", false, err
		}
		if !socketFits(dir) {
			return "", false, fmt.Errorf("the socket folder %s is too long for a socket's address", dir)
		}
		if err := a.makePrivate(dir); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", false, err
		}
		return dir, false, nil
	}
	if dir := filepath.Join(p.dir, "socket"); p.temporary && socketFits(dir) {
		return dir, true, a.makePrivate(dir)
	}
	parents := []string{"/tmp", "/var/tmp"}
	if socketFits(filepath.Join(os.TempDir(), "sealkeep-pg-1234567890")) {
		parents = append([]string{os.TempDir()}, parents...)
	}
	dir, err := temporaryFolder(a, parents...)
	if err == nil {
		err = a.own(dir)
	}
	return dir, true, err
}

// socketFits tells whether a socket in dir has an address that the system can hold: 107 bytes on Linux, 103 on
// the BSDs and macOS.
func socketFits(dir string) bool {
	limit := 107
	if runtime.GOOS != "linux" {
		limit = 103
	}
	return len(dir)+len("/.s.PGSQL.65535") <= limit
}

// initialized tells whether the data folder is complete, and refuses one of another major version.
func (p place) initialized(b Binaries) (bool, error) {
	text, err := os.ReadFile(filepath.Join(p.data, "PG_VERSION"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	}
	if made := strings.TrimSpace(string(text)); made != strconv.Itoa(b.Major) {
		return false, fmt.Errorf("the data in %s was made by PostgreSQL %s, and the server found in %s is PostgreSQL %d: "+
			"set %s to the programs of PostgreSQL %s, or remove the data", p.data, made, b.Dir, b.Major, BinariesVariable, made)
	}
	return true, nil
}

// clear makes room for a new data folder. What is in its place is an empty folder, or lies outside and its link
// is gone, as after somebody removed dir: that is moved aside, once.
func (p place) clear() error {
	if err := os.Remove(p.data); err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if p.link == "" {
		return fmt.Errorf("%s is neither empty nor a PostgreSQL data folder", p.data)
	}
	if err := os.RemoveAll(p.data + ".old"); err != nil {
		return err
	}
	return os.Rename(p.data, p.data+".old")
}
