package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/caarlos0/env/v11"

	"github.com/sealkeep/sealkeep/internal/sensitive"
)

// maxSecretFile bounds what is read of a _FILE, in bytes: far more than a key or a connection string needs, and far less
// than a device or a log that was named by mistake would give.
const maxSecretFile = 64 << 10

// source is an environment being read, and what has been found wrong with it so far.
type source struct {
	environ  map[string]string
	program  string // that reads it: some defaults depend on that
	problems []Problem
}

func read(environ map[string]string, program string) *source {
	return &source{environ: environ, program: program}
}

func (s *source) problem(variable, message string) {
	s.problems = append(s.problems, Problem{Variable: variable, Message: message})
}

func (s *source) err() error { return NewError(s.problems) }

// text gives the value of a variable that holds no secret, or its default.
func (s *source) text(v Variable) string {
	if value := s.environ[v.Name]; value != "" {
		return value
	}
	return v.DefaultOf(s.program)
}

// parse fills the fields of the struct that v points to, each tagged with the name of its variable. Every field that
// doesn't parse is a problem and keeps its zero value.
func (s *source) parse(v any) {
	// The library is shown what belongs to the struct and nothing else, the defaults put in.
	values := make(map[string]string)
	names := make(map[string]string) // variable by field
	for field := range reflect.TypeOf(v).Elem().Fields() {
		name := field.Tag.Get("env")
		variable, ok := lookup(name)
		if !ok || variable.Secret {
			panic("config: " + name + " is not declared as a variable without secrets")
		}
		names[field.Name] = name
		values[name] = s.text(variable)
		if problem := variable.judgeWhole(values[name]); variable.most > 0 && problem != "" {
			s.problem(name, problem)
			values[name] = ""
		}
	}
	err := env.ParseWithOptions(v, env.Options{Environment: values})
	var all env.AggregateError
	switch {
	case err == nil:
		return
	case !errors.As(err, &all):
		panic(fmt.Sprintf("config: %T can't be filled", v))
	}
	for _, one := range all.Errors {
		// The library's own text quotes values. Ours is inside, and doesn't.
		var parse env.ParseError
		var refused refusal
		if !errors.As(one, &parse) || !errors.As(parse.Err, &refused) {
			panic(fmt.Sprintf("config: %T has a field that can't be filled", v))
		}
		s.problem(names[parse.Name], string(refused))
	}
}

// secret gives the value of a variable that holds a secret, from the variable itself or from the file that its _FILE
// form names; zero if neither is set. The caller releases it. A file's trailing line ending isn't part of the value,
// but for a variable whose value may be binary.
func (s *source) secret(name string) sensitive.Bytes {
	v, ok := lookup(name)
	if !ok || !v.Secret {
		panic("config: " + name + " is not declared as a variable with a secret")
	}
	return s.secretOf(v)
}

func (s *source) secretOf(v Variable) sensitive.Bytes {
	name := v.Name
	direct, path := s.environ[name], s.environ[name+"_FILE"]
	switch {
	case direct != "" && path != "":
		s.problem(name, "is set, and so is "+name+"_FILE: keep one of them")
		return sensitive.Bytes{}
	case direct != "":
		return sensitive.CopyString(direct)
	case path == "":
		return sensitive.Bytes{}
	}
	content, problem := readSecretFile(path)
	if problem != "" {
		s.problem(name+"_FILE", problem)
		return sensitive.Bytes{}
	}
	kept := content
	if !v.exact {
		kept = trimLineEnding(content)
	}
	if len(kept) == 0 {
		s.problem(name+"_FILE", "names a file that is empty")
		return sensitive.Bytes{}
	}
	return sensitive.Take(kept)
}

// isSet tells whether a variable, or its _FILE form if it holds a secret, has a value.
func (s *source) isSet(name string) bool {
	v, ok := lookup(name)
	return s.environ[name] != "" || (ok && v.Secret && s.environ[name+"_FILE"] != "")
}

// readSecretFile gives the content of a file, or what is wrong with it, without its name: what stands in a _FILE
// variable may be the secret itself.
func readSecretFile(path string) (content []byte, problem string) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fileProblem(err)
	}
	defer file.Close()
	content, err = io.ReadAll(io.LimitReader(file, maxSecretFile+1))
	if err != nil {
		sensitive.Zero(content)
		return nil, fileProblem(err)
	}
	if len(content) > maxSecretFile {
		sensitive.Zero(content)
		return nil, fmt.Sprintf("names a file of more than %d bytes: that is no secret of this kind", maxSecretFile)
	}
	return content, ""
}

func fileProblem(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "names a file that does not exist: write the path of a file that holds the value"
	case errors.Is(err, fs.ErrPermission):
		return "names a file that this process may not read"
	default:
		return "names a file that can't be read: write the path of a file that holds the value"
	}
}

func trimLineEnding(b []byte) []byte {
	if n := len(b); n > 0 && b[n-1] == '\n' {
		b = b[:n-1]
		if n := len(b); n > 0 && b[n-1] == '\r' {
			b = b[:n-1]
		}
	}
	return b
}

// unrecognised names the VAULT_* variables in the environment that nothing reads, sorted.
func (s *source) unrecognised() []string {
	var names []string
	for name := range s.environ {
		if !strings.HasPrefix(name, "VAULT_") || slices.Contains(elsewhere, name) {
			continue
		}
		if _, ok := lookup(name); ok {
			continue
		}
		if base, isFile := strings.CutSuffix(name, "_FILE"); isFile {
			if v, ok := lookup(base); ok && v.Secret {
				continue
			}
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Environ makes a map of what os.Environ returns. Of a name that occurs twice the first counts, as in libc's getenv.
func Environ(list []string) map[string]string {
	environ := make(map[string]string, len(list))
	for _, entry := range list {
		name, value, ok := strings.Cut(entry, "=")
		if _, seen := environ[name]; ok && !seen {
			environ[name] = value
		}
	}
	return environ
}
