package config

import (
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// Database says how to reach PostgreSQL.
type Database struct {
	MaxConns int // how many pooled connections there may be

	hosts    []host
	user     string
	password sensitive.Bytes // zero when none was given
	name     string
	sslmode  string
	// params holds the other settings of a URL, all of them of those that urlParameters allows.
	params map[string]sensitive.Bytes
}

// host is one place where PostgreSQL may be: a host name, an IP address without brackets, or an absolute path to a
// folder that holds its socket.
type host struct {
	name string
	port uint16
}

func (h host) isSocket() bool { return strings.HasPrefix(h.name, "/") }

// isLocal tells that nothing between this process and the server leaves the machine.
func (h host) isLocal() bool {
	return h.isSocket() || isLoopback(h.name)
}

func (h host) String() string {
	if h.isSocket() {
		return h.name
	}
	return net.JoinHostPort(h.name, strconv.Itoa(int(h.port)))
}

// The sslmodes of libpq, the strongest first.
var sslmodes = []string{"verify-full", "verify-ca", "require", "prefer", "allow", "disable"}

const (
	strongest  = "verify-full"
	localMode  = "prefer"
	modeAdvice = "write verify-full, verify-ca, require, prefer, allow or disable"
)

// database reads how to reach PostgreSQL: from VAULT_DATABASE_URL, or from VAULT_PG_HOSTS and its companions.
func (s *source) database() Database {
	var v struct {
		MaxConns int64 `env:"VAULT_PG_MAX_CONNS"`
	}
	s.parse(&v)

	var d Database
	parts := slices.DeleteFunc([]string{
		"VAULT_PG_HOSTS", "VAULT_PG_PORT", "VAULT_PG_USER", "VAULT_PG_PASSWORD", "VAULT_PG_DBNAME", "VAULT_PG_SSLMODE",
	}, func(name string) bool { return !s.isSet(name) })
	switch hasURL := s.isSet("VAULT_DATABASE_URL"); {
	case hasURL && len(parts) > 0:
		s.problem("VAULT_DATABASE_URL", "says all of the connection: unset it or "+strings.Join(parts, ", "))
	case hasURL:
		d = s.databaseFromURL()
	case len(parts) > 0:
		d = s.databaseFromParts()
	default:
		s.problem("VAULT_DATABASE_URL", "write how to reach PostgreSQL, like postgres://user:password@host:5432/database, or set VAULT_PG_HOSTS and its companions")
	}
	d.MaxConns = int(v.MaxConns)
	if d.sslmode == "" {
		d.sslmode = strongest
		if d.isLocal() {
			d.sslmode = localMode
		}
	}
	return d
}

func (s *source) databaseFromURL() Database {
	text := s.secret("VAULT_DATABASE_URL")
	defer text.Release()
	if text.IsZero() {
		return Database{} // its file is the problem
	}
	d, err := parseDatabaseURL(string(text.Reveal()))
	if err != nil {
		s.problem("VAULT_DATABASE_URL", err.Error())
	}
	return d
}

func (s *source) databaseFromParts() Database {
	var v struct {
		Hosts   string `env:"VAULT_PG_HOSTS"`
		Port    uint16 `env:"VAULT_PG_PORT"`
		User    string `env:"VAULT_PG_USER"`
		Name    string `env:"VAULT_PG_DBNAME"`
		SSLMode string `env:"VAULT_PG_SSLMODE"`
	}
	s.parse(&v)
	d := Database{user: v.User, name: v.Name, sslmode: v.SSLMode, password: s.secret("VAULT_PG_PASSWORD")}

	for name := range strings.SplitSeq(v.Hosts, ",") {
		name = strings.TrimSpace(name)
		if inner, ok := strings.CutPrefix(name, "["); ok {
			name = strings.TrimSuffix(inner, "]")
		}
		if !isDatabaseHost(name) {
			s.problem("VAULT_PG_HOSTS", "write host names, addresses or absolute paths of socket folders, separated by commas; the port goes into VAULT_PG_PORT")
			d.hosts = nil
			break
		}
		d.hosts = append(d.hosts, host{name: name, port: v.Port})
	}
	if v.User == "" {
		s.problem("VAULT_PG_USER", "write the login role of this program")
	}
	if v.Name == "" {
		s.problem("VAULT_PG_DBNAME", "write the name of the vault's database")
	}
	if v.SSLMode != "" && !slices.Contains(sslmodes, v.SSLMode) {
		s.problem("VAULT_PG_SSLMODE", modeAdvice)
	}
	for variable, text := range map[string]string{"VAULT_PG_USER": v.User, "VAULT_PG_DBNAME": v.Name} {
		if strings.ContainsRune(text, 0) {
			s.problem(variable, "holds a zero byte: remove it")
		}
	}
	return d
}

func isDatabaseHost(name string) bool {
	if strings.HasPrefix(name, "/") {
		return !strings.ContainsAny(name, ",\x00")
	}
	return isHost(name)
}

// isLocal tells that every host is a loopback address or a socket.
func (d Database) isLocal() bool {
	return len(d.hosts) > 0 && !slices.ContainsFunc(d.hosts, func(h host) bool { return !h.isLocal() })
}

// IsWeak tells that the connection may leave this machine with less protection than sslmode verify-full, which an
// operator asked for by name and which is worth a warning.
func (d Database) IsWeak() bool { return d.sslmode != strongest && !d.isLocal() }

// ConnString gives the connection as libpq's keyword string. It may hold a password: it is never logged.
//
// It is made anew from what was understood, so that the driver can't understand something else: a host or a mode that
// wasn't judged here never reaches it. The password may be absent, and then comes from PGPASSWORD or a password file.
func (d Database) ConnString() string {
	var names, ports []string
	for _, h := range d.hosts {
		names, ports = append(names, h.name), append(ports, strconv.Itoa(int(h.port)))
	}
	var b strings.Builder
	write := func(key, value string) {
		if value == "" {
			return
		}
		// Quoted, with quotes and backslashes escaped: PostgreSQL's manual, section "Keyword/Value Connection Strings".
		b.WriteString(key + "='" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "' ")
	}
	write("host", strings.Join(names, ","))
	write("port", strings.Join(ports, ","))
	write("user", d.user)
	write("password", string(d.password.Reveal()))
	write("dbname", d.name)
	write("sslmode", d.sslmode)
	write("target_session_attrs", "read-write")
	for _, key := range urlParameters {
		write(key, string(d.params[key].Reveal()))
	}
	return strings.TrimSuffix(b.String(), " ")
}

// Hosts gives host:port of every host, or the folder of a socket, separated by commas, for messages.
func (d Database) Hosts() string {
	names := make([]string, len(d.hosts))
	for i, h := range d.hosts {
		names[i] = h.String()
	}
	return strings.Join(names, ",")
}

// LogValue shows where the database is and how the connection is protected.
func (d Database) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("hosts", d.Hosts()),
		slog.String("user", d.user),
		slog.String("database", d.name),
		slog.String("sslmode", d.sslmode),
		slog.Int("max_conns", d.MaxConns),
	)
}

// judgeFile refuses a file that the driver would have to read later and would then fail on with less to say.
func judgeFile(parameter, path string) error {
	file, err := os.Open(path)
	if err == nil {
		return file.Close()
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("the file of its " + parameter + " does not exist")
	default:
		return errors.New("the file of its " + parameter + " can't be read by this process")
	}
}
