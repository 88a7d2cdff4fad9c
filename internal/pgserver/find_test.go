package pgserver

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// install writes a postgres and an initdb that only tell their version.
func install(t *testing.T, dir, version string) string {
	t.Helper()
	write(t, filepath.Join(dir, "postgres"), fmt.Sprintf("#!/bin/sh\necho 'postgres (PostgreSQL) %s (Test %s)'\n", version, version))
	write(t, filepath.Join(dir, "initdb"), "#!/bin/sh\n")
	return dir
}

func write(t *testing.T, path, script string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
}

// nowhere is a finder that searches only below root.
func nowhere(root string, environment map[string]string) finder {
	return finder{
		getenv:   func(name string) string { return environment[name] },
		root:     filepath.Join(root, "repository"),
		packages: filepath.Join(root, "usr/lib/postgresql/*/bin"),
		homebrew: []string{filepath.Join(root, "opt/postgresql@*/bin")},
	}
}

func resolvedTempDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestFind_SearchesInTheDocumentedOrder(t *testing.T) {
	t.Parallel()
	root := resolvedTempDir(t)
	environment := map[string]string{}
	f := nowhere(root, environment)

	// From the last place to the first: each beats those before it.
	steps := []struct {
		place string
		make  func() string
	}{
		{"npm below .tools", func() string {
			return install(t, filepath.Join(root, "repository/.tools/pg/native/bin"), "18.4")
		}},
		{"Debian packages below .tools", func() string {
			return install(t, filepath.Join(root, "repository/.tools/pg/usr/lib/postgresql/15/bin"), "15.1")
		}},
		{"Homebrew", func() string { return install(t, filepath.Join(root, "opt/postgresql@16/bin"), "16.2") }},
		{"a newer one of Homebrew", func() string { return install(t, filepath.Join(root, "opt/postgresql@17/bin"), "17.1") }},
		{"the distribution's packages", func() string { return install(t, filepath.Join(root, "usr/lib/postgresql/9/bin"), "15.9") }},
		{"a newer package", func() string { return install(t, filepath.Join(root, "usr/lib/postgresql/15/bin"), "15.3") }},
		{"pg_config on PATH", func() string {
			hidden := install(t, filepath.Join(root, "hidden"), "16.1")
			write(t, filepath.Join(root, "wrappers/pg_config"), "#!/bin/sh\necho "+hidden+"\n")
			environment["PATH"] = filepath.Join(root, "wrappers")
			return hidden
		}},
		{"a link on PATH", func() string {
			real := install(t, filepath.Join(root, "real"), "16.3")
			links := filepath.Join(root, "links")
			if err := os.Mkdir(links, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(filepath.Join(real, "postgres"), filepath.Join(links, "postgres")); err != nil {
				t.Fatal(err)
			}
			environment["PATH"] += string(filepath.ListSeparator) + links
			return real
		}},
		{BinariesVariable, func() string {
			environment[BinariesVariable] = install(t, filepath.Join(root, "named"), "18beta1")
			return environment[BinariesVariable]
		}},
	}
	for _, step := range steps {
		want := step.make()
		got, err := f.find()
		if err != nil {
			t.Fatalf("%s: %v", step.place, err)
		}
		if got.Dir != want {
			t.Errorf("%s: found %s, want %s", step.place, got.Dir, want)
		}
	}
	if got, _ := f.find(); got.Major != 18 || got.Version != "18beta1" {
		t.Errorf("version %q, major %d; want 18beta1, 18", got.Version, got.Major)
	}
}

func TestFind_TheNamedFolderIsTheOnlyOneSearched(t *testing.T) {
	t.Parallel()
	root := resolvedTempDir(t)
	install(t, filepath.Join(root, "usr/lib/postgresql/16/bin"), "16.1")
	old := install(t, filepath.Join(root, "old"), "14.11")
	for name, dir := range map[string]string{"missing": filepath.Join(root, "missing"), "too old": old} {
		f := nowhere(root, map[string]string{BinariesVariable: dir})
		if got, err := f.find(); err == nil || !strings.Contains(err.Error(), BinariesVariable) {
			t.Errorf("%s: found %+v, error %v; want an error that names %s", name, got, err, BinariesVariable)
		}
	}
}

func TestFind_SkipsWhatCannotServe(t *testing.T) {
	t.Parallel()
	root := resolvedTempDir(t)
	install(t, filepath.Join(root, "old"), "14.11")
	write(t, filepath.Join(root, "alone/postgres"), "#!/bin/sh\necho 'postgres (PostgreSQL) 17.1'\n")
	write(t, filepath.Join(root, "broken/postgres"), "#!/bin/sh\nexit 1\n")
	write(t, filepath.Join(root, "broken/initdb"), "#!/bin/sh\n")
	want := install(t, filepath.Join(root, "usr/lib/postgresql/16/bin"), "16.1")
	path := strings.Join([]string{
		filepath.Join(root, "old"), filepath.Join(root, "alone"), filepath.Join(root, "broken"),
	}, string(filepath.ListSeparator))
	got, err := nowhere(root, map[string]string{"PATH": path}).find()
	if err != nil || got.Dir != want {
		t.Errorf("found %+v, error %v; want %s", got, err, want)
	}
}

func TestFind_NothingFoundSaysInOneSentenceWhatToInstall(t *testing.T) {
	t.Parallel()
	root := resolvedTempDir(t)
	old := install(t, filepath.Join(root, "old"), "14.11")
	for name, test := range map[string]struct {
		path string
		want []string
	}{
		"nothing at all":  {"", nil},
		"only an old one": {old, []string{"14.11"}},
	} {
		_, err := nowhere(root, map[string]string{"PATH": test.path}).find()
		if err == nil {
			t.Fatalf("%s: no error", name)
		}
		want := append(test.want, "apt-get install postgresql-15", "make pg", "brew install postgresql@17", BinariesVariable)
		for _, part := range want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %q does not say %q", name, err, part)
			}
		}
		if strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), ". ") {
			t.Errorf("%s: not one sentence: %q", name, err)
		}
	}
}

func TestFind_UnpackedServersGetTheirLibraries(t *testing.T) {
	t.Parallel()
	root := resolvedTempDir(t)
	debian := install(t, filepath.Join(root, "pg/usr/lib/postgresql/15/bin"), "15.1")
	libraries := filepath.Join(root, "pg/usr/lib/x86_64-linux-gnu")
	if err := os.MkdirAll(libraries, 0o755); err != nil {
		t.Fatal(err)
	}
	npm := install(t, filepath.Join(root, "npm/native/bin"), "18.4")
	plain := install(t, filepath.Join(root, "plain/bin"), "16.1")
	for dir, want := range map[string]string{
		debian: libraries,
		npm:    filepath.Join(root, "npm/native/lib"),
		plain:  "",
	} {
		got, err := inspect(dir)
		if err != nil || got.LibraryPath != want {
			t.Errorf("%s: libraries %q, error %v; want %q", dir, got.LibraryPath, err, want)
		}
	}
}
