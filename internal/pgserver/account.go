package pgserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

// account is the operating-system user that PostgreSQL runs as.
type account struct {
	name     string
	uid, gid uint32
	other    bool // not the user that we run as: we are root, which PostgreSQL refuses to be
}

// serverAccount is our own user or, for root, `postgres`, else `nobody`.
func serverAccount() (account, error) {
	if os.Geteuid() != 0 {
		uid, gid := os.Geteuid(), os.Getegid()
		return account{name: "uid " + strconv.Itoa(uid), uid: uint32(uid), gid: uint32(gid)}, nil //nolint:gosec // ids are 32 bits
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			return otherAccount(u)
		}
	}
	return account{}, errors.New("PostgreSQL does not run as root, and this machine has neither a user postgres " +
		"nor a user nobody: add one, or run this as an ordinary user")
}

func otherAccount(u *user.User) (account, error) {
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return account{}, fmt.Errorf("user %s: %w", u.Username, err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return account{}, fmt.Errorf("user %s: %w", u.Username, err)
	}
	return account{name: u.Username, uid: uint32(uid), gid: uint32(gid), other: true}, nil
}

// ownerOf returns the owner of an existing data folder as the account for its server.
func ownerOf(info os.FileInfo) (account, error) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return account{}, errors.New("this system does not tell who owns a file")
	}
	if u, err := user.LookupId(strconv.FormatUint(uint64(stat.Uid), 10)); err == nil {
		return otherAccount(u)
	}
	return account{name: fmt.Sprintf("uid %d", stat.Uid), uid: stat.Uid, gid: stat.Gid, other: true}, nil
}

// attributes put a child in a session of its own, under this account, without our supplementary groups.
func (a account) attributes() *syscall.SysProcAttr {
	attributes := &syscall.SysProcAttr{Setsid: true}
	if a.other {
		attributes.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
	return attributes
}

// reaches tells whether the account can enter a folder. It tries, as mode bits alone don't tell: access lists,
// root squash and mount options have their say.
func (a account) reaches(dir string) bool {
	if !a.other {
		return true
	}
	//nolint:gosec // the folder is an argument of the script, not a part of it
	cmd := exec.CommandContext(context.Background(), "/bin/sh", "-c", `cd -- "$1"`, "sh", dir)
	cmd.Dir, cmd.Env, cmd.SysProcAttr = "/", environment(""), a.attributes()
	return cmd.Run() == nil
}

// own gives a file that we made to the account.
func (a account) own(path string) error {
	if !a.other {
		return nil
	}
	return os.Lchown(path, int(a.uid), int(a.gid))
}

// makePrivate makes a folder that only the account (and root) can enter.
func (a account) makePrivate(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	return a.own(dir)
}
