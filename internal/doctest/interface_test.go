package doctest

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/sealkeep/sealkeep/internal/cli"
	"github.com/sealkeep/sealkeep/internal/config"
)

// help gives the help text of a command of the CLI, by its words.
func help(t *testing.T, words ...string) string {
	t.Helper()
	var out bytes.Buffer
	status := cli.Run(t.Context(), cli.Invocation{
		Program: "sealkeep", Args: append(slices.Clone(words), "--help"), Stdin: strings.NewReader(""), Stdout: &out, Stderr: &out,
	})
	if status != 0 {
		t.Fatalf("sealkeep %s --help: status %d\n%s", strings.Join(words, " "), status, out.String())
	}
	return out.String()
}

var (
	subcommands = regexp.MustCompile(`(?m)^Available Commands:\n((?:  .+\n)+)`)
	invocation  = regexp.MustCompile(`(?:^|[\s('"|$/])sealkeep ([a-z][^|;&<>)]*)`)
	word        = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)
	longFlag    = regexp.MustCompile(`^--[a-z][a-z-]*`)
)

// wrongCommand says what is wrong with the words behind "sealkeep", or "" if nothing is.
func wrongCommand(t *testing.T, line string) string {
	t.Helper()
	words := strings.Fields(line)
	var path []string
	text := help(t)
	for m := subcommands.FindStringSubmatch(text); m != nil && len(words) > 0 && word.MatchString(words[0]); m = subcommands.FindStringSubmatch(text) {
		if !regexp.MustCompile(`(?m)^  ` + words[0] + ` `).MatchString(m[1]) {
			return "there is no command sealkeep " + strings.Join(append(path, words[0]), " ")
		}
		path = append(path, words[0])
		words = words[1:]
		text = help(t, path...)
	}
	if len(path) == 0 {
		return "it names no command"
	}
	for _, w := range words {
		if flag := longFlag.FindString(w); flag != "" && !regexp.MustCompile(`(?m)\s`+flag+`\b`).MatchString(text) {
			return "sealkeep " + strings.Join(path, " ") + " has no flag " + flag
		}
	}
	return ""
}

func TestCommandsThatDocumentsNameExist(t *testing.T) {
	t.Parallel()
	wrong := func(d document) (found int, wrong []string) {
		for _, line := range d.code() {
			for _, m := range invocation.FindAllStringSubmatch(line, -1) {
				found++
				if problem := wrongCommand(t, m[1]); problem != "" {
					wrong = append(wrong, problem)
				}
			}
		}
		return found, wrong
	}
	control := parse("", "`sealkeep secret shout x`, `printf x | bin/sealkeep secret get x --loud`, `sealkeep shout` and `sealkeep audit verify --database`")
	want := []string{"there is no command sealkeep secret shout", "sealkeep secret get has no flag --loud", "there is no command sealkeep shout"}
	if found, got := wrong(control); found != 4 || !slices.Equal(got, want) {
		t.Errorf("control: got %d, %q", found, got)
	}
	for _, d := range documents(t) {
		found, got := wrong(d)
		if len(got) > 0 {
			t.Errorf("%s: %s", d.path, strings.Join(got, "; "))
		}
		if d.path == "README.md" && found < 20 {
			t.Errorf("%s names only %d commands", d.path, found)
		}
	}
}

// Variables that no server reads. What a program of this release doesn't read at all may be named only as something that
// isn't there yet; once it is declared it has no place here.
var (
	clientVariables = []string{"VAULT_ADDR", "VAULT_TOKEN", "VAULT_TOKEN_FILE"}
	notYetVariables = []string{}
	variable        = regexp.MustCompile(`\bVAULT_[A-Z0-9_]*[A-Z0-9]\b`)
)

func TestVariablesThatDocumentsNameExist(t *testing.T) {
	t.Parallel()
	known := slices.Clone(clientVariables)
	for _, v := range config.Variables() {
		known = append(known, v.Name)
		if v.Secret {
			known = append(known, v.Name+"_FILE")
		}
	}
	for _, name := range notYetVariables {
		if slices.Contains(known, name) {
			t.Errorf("%s is declared: take it off the list of those that aren't", name)
		}
	}
	unknown := func(d document) (unknown []string) {
		for _, name := range variable.FindAllString(d.text, -1) {
			later := slices.Contains(notYetVariables, name) && d.path == "docs/threat-model.md"
			if !slices.Contains(known, name) && !later {
				unknown = append(unknown, name)
			}
		}
		return unknown
	}
	control := parse("", "VAULT_READ_AUHT `VAULT_DATABASE_URL_FILE` VAULT_AUDIT_SINKS and VAULT_PG_*")
	if got := unknown(control); !slices.Equal(got, []string{"VAULT_READ_AUHT", "VAULT_AUDIT_SINKS"}) {
		t.Errorf("control: got %q", got)
	}
	for _, d := range documents(t) {
		if got := unknown(d); len(got) > 0 {
			t.Errorf("%s names variables that nothing reads: %s", d.path, strings.Join(got, ", "))
		}
	}
}

var route = regexp.MustCompile(`\b(GET|HEAD|POST|PUT|PATCH|DELETE) (/[^\s?"'` + "`" + `]*)`)

func TestRoutesThatDocumentsNameExist(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root, "docs/openapi.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var contract struct {
		Paths map[string]map[string]any `yaml:"paths"`
	}
	if err := yaml.Unmarshal(text, &contract); err != nil {
		t.Fatal(err)
	}
	unknown := func(d document) (found int, unknown []string) {
		for _, line := range d.code() {
			for _, m := range route.FindAllStringSubmatch(line, -1) {
				found++
				if _, ok := contract.Paths[m[2]][strings.ToLower(m[1])]; !ok {
					unknown = append(unknown, m[0])
				}
			}
		}
		return found, unknown
	}
	control := parse("", "`GET /v1/secrets/{name}` `PATCH /v1/secrets/{name}` `GET /v1/nothing`")
	if found, got := unknown(control); found != 3 || !slices.Equal(got, []string{"PATCH /v1/secrets/{name}", "GET /v1/nothing"}) {
		t.Errorf("control: got %q", got)
	}
	all := 0
	for _, d := range documents(t) {
		found, got := unknown(d)
		if all += found; len(got) > 0 {
			t.Errorf("%s names routes that docs/openapi.yaml doesn't have: %s", d.path, strings.Join(got, ", "))
		}
	}
	if all < 3 {
		t.Errorf("only %d routes were found", all)
	}
}
