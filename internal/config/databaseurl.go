package config

import (
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// urlParameters are the settings of libpq that a URL may carry beside what names the server and the login: how the
// connection is protected. What else libpq and the driver know either is set by every session itself, for the sake of
// durability and safety, or redirects the connection.
var urlParameters = []string{
	"sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcertmode", "sslnegotiation", "channel_binding", "require_auth",
}

var (
	errURLForm      = errors.New("write postgres://user:password@host:port/database, several hosts separated by commas")
	errURLEscape    = errors.New("holds a % that starts no escape: write it as %25, and other special characters of a password as % and two hexadecimal digits")
	errURLHost      = errors.New("names no host: write postgres://user@host/database, or ?host=/folder for a socket")
	errURLPort      = errors.New("has a port that is no number from 1 to 65535; a / : or @ in a password is written as %2F %3A %40")
	errURLParameter = errors.New("has a parameter that isn't known here; these are: host, port, user, password, dbname, sslmode, target_session_attrs=read-write, " + strings.Join(urlParameters, ", "))
	errURLMode      = errors.New("has another sslmode than there is: " + modeAdvice)
	errURLLogin     = errors.New("names no user: write postgres://user:password@host/database")
	errURLDatabase  = errors.New("names no database: write postgres://user:password@host/database")
	errURLRepeated  = errors.New("says one thing twice: name host, port, user, password and database once, before the question mark or after it")
	errURLZero      = errors.New("holds a zero byte: remove it")
)

// parseDatabaseURL reads a URL of the form that libpq's manual gives (section "Connection URIs"), several hosts
// included, which net/url refuses. It is stricter than libpq where that guesses, and knows fewer parameters. Errors
// never hold any of the text.
func parseDatabaseURL(text string) (Database, error) {
	rest, ok := strings.CutPrefix(text, "postgres://")
	if !ok {
		if rest, ok = strings.CutPrefix(text, "postgresql://"); !ok {
			return Database{}, errURLForm
		}
	}
	rest, query, _ := strings.Cut(rest, "?")
	authority, path, _ := strings.Cut(rest, "/")

	parts := make(map[string]string) // decoded, by parameter
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		user, password, _ := strings.Cut(authority[:i], ":")
		parts["user"], parts["password"] = user, password
		authority = authority[i+1:]
	}
	parts["dbname"] = path
	for key, raw := range parts {
		value, err := url.PathUnescape(raw)
		if err != nil {
			return Database{}, errURLEscape
		}
		parts[key] = value
	}
	names, ports, err := splitHosts(authority)
	if err != nil {
		return Database{}, err
	}
	parts["host"], parts["port"] = names, ports
	if err := addParameters(parts, query); err != nil {
		return Database{}, err
	}
	return databaseOf(parts)
}

// splitHosts gives the hosts and ports of host:port,host:port as two lists of equal length, separated by commas. Ports
// may be empty.
func splitHosts(authority string) (names, ports string, err error) {
	if authority == "" {
		return "", "", nil
	}
	var nameList, portList []string
	for entry := range strings.SplitSeq(authority, ",") {
		var name, port string
		if inner, ok := strings.CutPrefix(entry, "["); ok {
			if name, port, ok = strings.Cut(inner, "]"); !ok || (port != "" && port[0] != ':') {
				return "", "", errURLForm
			}
			port = strings.TrimPrefix(port, ":")
		} else {
			name, port, _ = strings.Cut(entry, ":")
		}
		if name, err = url.PathUnescape(name); err != nil {
			return "", "", errURLEscape
		}
		if strings.Contains(name, ",") {
			return "", "", errURLForm
		}
		nameList, portList = append(nameList, name), append(portList, port)
	}
	return strings.Join(nameList, ","), strings.Join(portList, ","), nil
}

// addParameters adds the query's parameters to parts, each at most once.
func addParameters(parts map[string]string, query string) error {
	for pair := range strings.SplitSeq(query, "&") {
		if pair == "" {
			continue
		}
		rawKey, rawValue, _ := strings.Cut(pair, "=")
		key, errKey := url.PathUnescape(rawKey)
		value, errValue := url.PathUnescape(rawValue)
		if errKey != nil || errValue != nil {
			return errURLEscape
		}
		switch {
		case slices.Contains([]string{"host", "port", "user", "password", "dbname", "sslmode"}, key),
			slices.Contains(urlParameters, key):
		case key == "target_session_attrs" && value == "read-write":
		default:
			return errURLParameter
		}
		if strings.Trim(parts[key], ",") != "" {
			return errURLRepeated
		}
		parts[key] = value
	}
	return nil
}

// databaseOf judges the parts of a URL.
func databaseOf(parts map[string]string) (Database, error) {
	for _, value := range parts {
		if strings.ContainsRune(value, 0) {
			return Database{}, errURLZero
		}
	}
	d := Database{user: parts["user"], name: parts["dbname"], sslmode: parts["sslmode"]}
	names, ports := strings.Split(parts["host"], ","), strings.Split(parts["port"], ",")
	if len(ports) != 1 && len(ports) != len(names) {
		return Database{}, errors.New("has another number of ports than of hosts: give one port for all, or one for each")
	}
	for i, name := range names {
		if name == "" {
			return Database{}, errURLHost
		}
		if !isDatabaseHost(name) {
			return Database{}, errURLForm
		}
		port := ports[min(i, len(ports)-1)]
		if port == "" {
			port = "5432"
		}
		if !isPort(port, 1) {
			return Database{}, errURLPort
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return Database{}, errURLPort
		}
		d.hosts = append(d.hosts, host{name: name, port: uint16(n)})
	}
	switch {
	case d.user == "":
		return Database{}, errURLLogin
	case d.name == "":
		return Database{}, errURLDatabase
	case d.sslmode != "" && !slices.Contains(sslmodes, d.sslmode):
		return Database{}, errURLMode
	}
	if password := parts["password"]; password != "" {
		d.password = sensitive.CopyString(password)
	}
	for _, key := range urlParameters {
		value := parts[key]
		if value == "" {
			continue
		}
		isFile := key == "sslcert" || key == "sslkey" || (key == "sslrootcert" && value != "system")
		if isFile {
			if err := judgeFile(key, value); err != nil {
				return Database{}, err
			}
		}
		if d.params == nil {
			d.params = make(map[string]sensitive.Bytes)
		}
		d.params[key] = sensitive.CopyString(value)
	}
	return d, nil
}
