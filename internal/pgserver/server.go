package pgserver

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
)

// DefaultPort is the port in the name of the socket when there is no TCP.
const DefaultPort = 5432

// Config says how to run a server. The zero value is a temporary one without TCP and without fsync.
type Config struct {
	// Dir is the folder for the server's files, made with mode 0700 if it is missing; the data goes in
	// Dir/data. As root, when PostgreSQL's user can't enter Dir, Dir/data is a link to a folder outside.
	// Empty: a temporary folder, which Discard removes, or the watchdog when this process ends any other way.
	Dir string
	// SocketDir is the private folder for the socket, made if it is missing and never removed. Its path must
	// leave room for a socket's name within 107 bytes. Empty: a new folder, which Stop removes.
	SocketDir string
	// Durable data survives a crash of the operating system. Without it fsync and full page writes are off.
	Durable bool
	// Settings are passed to the server on its command line, so ALTER SYSTEM does not override them.
	Settings map[string]string
	// TCPPort, if not 0, is a port on 127.0.0.1 to listen on as well, without passwords: for tests alone.
	TCPPort int
	// LogFile gets the server's log, appended; it is made with mode 0600. Empty: postgres.log in Dir.
	LogFile string
	// Superuser is the name of the superuser of a new data folder. Empty: "postgres".
	Superuser string
}

// Server is one private PostgreSQL server. Its methods are safe for concurrent use.
type Server struct {
	binaries Binaries
	config   Config
	account  account
	place    place

	operation sync.Mutex // held for the whole of Start, Stop, Restart, Kill and Discard
	lock      *os.File   // nil when the folder is not ours
	watchdog  *watchdog

	mu         sync.Mutex // guards what follows
	sockets    string
	ownSockets bool
	process    *process
}

// Start makes the data if there is none and returns when the server accepts connections. The context bounds the
// start alone; the server runs until Stop, Kill or Discard, or until this process ends. It fails with an
// *InUseError when another process of ours holds the folder.
//
// Start marks the descriptors that this process inherited close-on-exec: no child of ours gets them unasked.
func Start(ctx context.Context, b Binaries, c Config) (*Server, error) {
	closeInheritedOnExec()
	c.Superuser = cmp.Or(c.Superuser, "postgres")
	a, err := serverAccount()
	if err != nil {
		return nil, err
	}
	p, a, err := findPlace(c.Dir, a)
	if err != nil {
		return nil, err
	}
	c.LogFile = cmp.Or(c.LogFile, filepath.Join(p.dir, "postgres.log"))
	s := &Server{binaries: b, config: c, account: a, place: p}
	s.operation.Lock()
	defer s.operation.Unlock()
	if err := s.open(ctx); err != nil {
		s.release()
		if p.temporary {
			err = errors.Join(err, os.RemoveAll(p.dir))
		}
		return nil, err
	}
	return s, nil
}

// open takes the folder and starts the server in it.
func (s *Server) open(ctx context.Context) error {
	if s.lock == nil {
		if err := s.acquire(); err != nil {
			return err
		}
	}
	if err := endLeftover(ctx, s.place.data); err != nil {
		return err
	}
	if err := s.initialize(ctx); err != nil {
		return err
	}
	return s.launch(ctx)
}

// acquire takes the lock, makes the socket folder and starts the watchdog.
func (s *Server) acquire() error {
	lock, err := lockFolder(s.place)
	if err != nil {
		return err
	}
	s.lock = lock
	dir, own, err := s.socketFolder()
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.sockets, s.ownSockets = dir, own
	s.mu.Unlock()
	var remove []string
	if own {
		remove = append(remove, dir)
	}
	if s.place.temporary {
		remove = append(remove, s.place.dir)
	}
	s.watchdog, err = startWatchdog(remove...)
	return err
}

// socketFolder makes the same folder again for a server that was stopped, so that its URLs stay good.
func (s *Server) socketFolder() (string, bool, error) {
	if s.ownSockets {
		return s.sockets, true, s.account.makePrivate(s.sockets)
	}
	return makeSocketFolder(s.config.SocketDir, s.place, s.account)
}

// release gives up everything but the data and the log.
func (s *Server) release() {
	if s.watchdog != nil {
		s.watchdog.end()
		s.watchdog = nil
	}
	if s.ownSockets {
		_ = os.RemoveAll(s.sockets)
	}
	if s.lock != nil {
		_ = s.lock.Close()
		s.lock = nil
	}
}

// Stop shuts the server down in order, ending its sessions, and at once when the context ends; what was
// committed is there after the next start either way. Stop of a stopped server does nothing. The folder is then
// free for others, unless it is temporary: that one stays for Restart until Discard.
func (s *Server) Stop(ctx context.Context) error {
	s.operation.Lock()
	defer s.operation.Unlock()
	err := s.shutdown(ctx)
	if !s.place.temporary && err == nil {
		s.release()
	}
	return err
}

// Restart stops the server if it runs and starts it again on the same data, socket folder and port. On an error
// it is stopped.
func (s *Server) Restart(ctx context.Context) error {
	s.operation.Lock()
	defer s.operation.Unlock()
	if err := s.shutdown(ctx); err != nil {
		return err
	}
	err := s.open(ctx)
	if err != nil && !s.place.temporary {
		s.release()
	}
	return err
}

// Kill makes the server crash: sessions end in the middle of what they do and nothing is written out. The next
// start recovers from the WAL.
func (s *Server) Kill() error {
	s.operation.Lock()
	defer s.operation.Unlock()
	return s.crash()
}

// Discard ends the server without ceremony and, if its folder is temporary, removes it.
func (s *Server) Discard() error {
	s.operation.Lock()
	defer s.operation.Unlock()
	if err := s.crash(); err != nil {
		return err
	}
	s.release()
	if s.place.temporary {
		return os.RemoveAll(s.place.dir)
	}
	return nil
}

// PID returns the postmaster's process id, or 0 when it does not run.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil || s.process.ended() {
		return 0
	}
	return s.process.cmd.Process.Pid
}

// Done is closed when the postmaster that runs now, or ran last, has ended, whatever ended it.
func (s *Server) Done() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process.done
}

// SocketDir returns the folder of the socket: psql takes it as its host.
func (s *Server) SocketDir() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sockets
}

// Port returns the port in the socket's name, which is the TCP port where there is one.
func (s *Server) Port() int { return cmp.Or(s.config.TCPPort, DefaultPort) }

// Superuser returns the name of the server's superuser.
func (s *Server) Superuser() string { return s.config.Superuser }

// DataDir returns the data folder with symbolic links resolved, for tests that read the server's files.
func (s *Server) DataDir() string { return s.place.data }

// LogFile returns the path of the server's log.
func (s *Server) LogFile() string { return s.config.LogFile }

// URL returns a connection URL over the socket.
func (s *Server) URL(user, database string) string {
	query := url.Values{
		"host":    {s.SocketDir()},
		"port":    {strconv.Itoa(s.Port())},
		"sslmode": {"disable"},
	}
	u := url.URL{Scheme: "postgres", User: url.User(user), Path: "/" + database, RawQuery: query.Encode()}
	return u.String()
}

// TCPURL returns a connection URL over 127.0.0.1, or "" for a server without TCP.
func (s *Server) TCPURL(user, database string) string {
	if s.config.TCPPort == 0 {
		return ""
	}
	u := url.URL{
		Scheme: "postgres", User: url.User(user), Path: "/" + database, RawQuery: "sslmode=disable",
		Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(s.config.TCPPort)),
	}
	return u.String()
}
