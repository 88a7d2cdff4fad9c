package pgserver

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// asRoot returns a folder that only root can enter, and lets data outside go to a folder of the test.
func asRoot(t *testing.T) (locked string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	outside := filepath.Join(folder(t), "outside")
	previous := publicParents
	publicParents = []string{outside}
	t.Cleanup(func() { publicParents = previous })
	locked = filepath.Join(folder(t), "locked")
	if err := os.Mkdir(locked, 0o700); err != nil {
		t.Fatal(err)
	}
	return locked
}

// Not parallel: it sets publicParents.
func TestRoot_DataGoesWhereTheServersUserReaches(t *testing.T) {
	dir := filepath.Join(asRoot(t), "dev")
	b := setup(t)
	s := start(t, b, Config{Dir: dir})
	link := filepath.Join(dir, "data")
	target, err := os.Readlink(link)
	if err != nil {
		t.Fatal(err)
	}
	if target != s.DataDir() || !strings.HasPrefix(target, publicParents[0]) {
		t.Errorf("the data is in %s, linked from %s to %s", s.DataDir(), link, target)
	}
	info, err := os.Stat(target)
	if err != nil {
		t.Fatal(err)
	}
	if owner, err := ownerOf(info); err != nil || owner.uid == 0 || owner.uid != s.account.uid {
		t.Errorf("the data belongs to uid %d, error %v", owner.uid, err)
	}
	query(t, s.URL("postgres", "postgres"), "CREATE TABLE kept AS SELECT 'kept' AS word")
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}

	t.Run("and is found again through the link", func(t *testing.T) {
		s := start(t, b, Config{Dir: dir})
		if got := query(t, s.URL("postgres", "postgres"), "SELECT word FROM kept"); got != "kept" {
			t.Errorf("the table holds %q", got)
		}
		if err := s.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("and is not taken over by a folder made anew in the same place", func(t *testing.T) {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		s := start(t, b, Config{Dir: dir})
		if got := query(t, s.URL("postgres", "postgres"), "SELECT coalesce(to_regclass('kept')::text, 'none')"); got != "none" {
			t.Errorf("a new folder has the old table %q", got)
		}
		if _, err := os.Stat(filepath.Join(s.DataDir()+".old", "PG_VERSION")); err != nil {
			t.Errorf("the old data was not set aside: %v", err)
		}
	})
}

// Not parallel: it sets publicParents.
func TestRoot_FolderOutsideMustBeRoots(t *testing.T) {
	dir := asRoot(t)
	if err := os.Mkdir(publicParents[0], 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(publicParents[0], 65534, 65534); err != nil {
		t.Fatal(err)
	}
	s, err := Start(t.Context(), setup(t), Config{Dir: dir})
	if err == nil {
		_ = s.Discard()
		t.Fatal("the server started in a folder of another user")
	}
	if !strings.Contains(err.Error(), "not a folder of root") {
		t.Error(err)
	}
}

func TestRoot_DataOfAUserIsServedAsThatUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir, nobody := folder(t), account{name: "nobody", uid: 65534, gid: 65534, other: true}
	b := setup(t)
	s := &Server{binaries: b, config: Config{Superuser: "postgres"}, account: nobody, place: place{
		dir: dir, home: dir, data: filepath.Join(dir, "data"),
	}}
	if err := s.acquire(); err != nil {
		t.Fatal(err)
	}
	err := s.initialize(t.Context())
	s.release()
	if err != nil {
		t.Fatal(err)
	}
	s = start(t, b, Config{Dir: dir})
	info, err := os.Stat(filepath.Join(s.SocketDir(), ".s.PGSQL.5432"))
	if err != nil {
		t.Fatal(err)
	}
	if owner, err := ownerOf(info); err != nil || owner.uid != nobody.uid {
		t.Errorf("the server runs as uid %d, error %v; want %d", owner.uid, err, nobody.uid)
	}
	query(t, s.URL("postgres", "postgres"), "SELECT 'up'")
}

func TestRoot_ProgramsOutOfReachAreExplained(t *testing.T) {
	locked := asRoot(t)
	b := Binaries{Dir: install(t, filepath.Join(locked, "bin"), "16.1"), Major: 16}
	_, err := Start(t.Context(), b, Config{})
	if !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), "can't enter "+b.Dir) {
		t.Errorf("error %v", err)
	}
}
