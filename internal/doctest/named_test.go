package doctest

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	testName   = regexp.MustCompile(`^(Test|Fuzz)\w+$`)
	anyTest    = regexp.MustCompile(`\b(Test|Fuzz)[A-Z]\w*`)
	testFunc   = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	link       = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	makeTarget = regexp.MustCompile(`\bmake ([a-z][a-z0-9-]*)`)
)

// testFunctions names all test functions of the repository.
func testFunctions(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if hidden := strings.HasPrefix(entry.Name(), ".") && path != root; entry.IsDir() && hidden {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range testFunc.FindAllStringSubmatch(string(text), -1) {
			names[m[1]] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestTestsThatDocumentsNameExist(t *testing.T) {
	t.Parallel()
	exists := testFunctions(t)
	missing := func(d document) (found int, missing []string) {
		for _, s := range d.spans {
			if testName.MatchString(s) {
				if found++; !exists[s] {
					missing = append(missing, s)
				}
			}
		}
		return found, missing
	}
	if _, got := missing(parse("", "by `TestThatNobodyWrote` and `"+"TestI5_MovedCiphertextDoesNotOpen`")); !slices.Equal(got, []string{"TestThatNobodyWrote"}) {
		t.Errorf("control: got %q", got)
	}
	for _, d := range documents(t) {
		found, gone := missing(d)
		if len(gone) > 0 {
			t.Errorf("%s names tests that don't exist: %s", d.path, strings.Join(gone, ", "))
		}
		if d.path == "docs/threat-model.md" {
			if found < 100 {
				t.Errorf("%s names only %d tests", d.path, found)
			}
			// A name that isn't marked as code would escape.
			if outside := anyTest.FindString(span.ReplaceAllString(d.prose, "")); outside != "" {
				t.Errorf("%s names %s outside of backticks", d.path, outside)
			}
		}
	}
}

func TestLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	broken := func(d document) (broken []string) {
		for _, m := range link.FindAllStringSubmatch(span.ReplaceAllString(d.prose, ""), -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			target, anchor, _ := strings.Cut(m[1], "#")
			path := d.path
			if target != "" {
				path = filepath.Join(filepath.Dir(d.path), target)
			}
			text, err := os.ReadFile(filepath.Join(root, path))
			if info, statErr := os.Stat(filepath.Join(root, path)); statErr == nil && info.IsDir() {
				err = nil
			}
			if err != nil || (anchor != "" && !slices.Contains(anchors(string(text)), anchor)) {
				broken = append(broken, m[1])
			}
		}
		return broken
	}
	control := parse("docs/x.md", "[a](nowhere.md) [b](threat-model.md) [c](threat-model.md#not-there) [d](https://example.com/)")
	if got := broken(control); !slices.Equal(got, []string{"nowhere.md", "threat-model.md#not-there"}) {
		t.Errorf("control: got %q", got)
	}
	for _, d := range documents(t) {
		if got := broken(d); len(got) > 0 {
			t.Errorf("%s has links that lead nowhere: %s", d.path, strings.Join(got, ", "))
		}
	}
}

var (
	heading    = regexp.MustCompile(`(?m)^#+ (.+)$`)
	notAnchor  = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	headingTag = strings.NewReplacer(" ", "-")
)

// anchors gives the names under which a document's headings can be linked to.
func anchors(text string) []string {
	var all []string
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		all = append(all, headingTag.Replace(notAnchor.ReplaceAllString(strings.ToLower(m[1]), "")))
	}
	return all
}

// repositoryPath matches what begins like a path of this repository: one of its folders, or a file at its root.
var repositoryPath = regexp.MustCompile(`^(cmd|docs|internal|migrations|scripts|test|testdata|tools|\.ci)/[\w./*-]*$|^(Makefile|[A-Z]+\.md|go\.work|go\.mod|sqlc\.yaml|\.golangci\.yaml)$`)

func TestPathsThatDocumentsNameExist(t *testing.T) {
	t.Parallel()
	gone := func(d document) (found int, gone []string) {
		for _, s := range d.spans {
			// NNNN stands for a number.
			if !repositoryPath.MatchString(s) || strings.Contains(s, "NNN") {
				continue
			}
			found++
			if matches, err := filepath.Glob(filepath.Join(root, strings.TrimSuffix(s, "/"))); err != nil || len(matches) == 0 {
				gone = append(gone, s)
			}
		}
		return found, gone
	}
	if found, got := gone(parse("", "`internal/nothing` `internal/vault/gate.go` `docs/*.md`")); found != 3 || !slices.Equal(got, []string{"internal/nothing"}) {
		t.Errorf("control: got %q", got)
	}
	all := 0
	for _, d := range documents(t) {
		found, got := gone(d)
		if all += found; len(got) > 0 {
			t.Errorf("%s names what isn't there: %s", d.path, strings.Join(got, ", "))
		}
	}
	if all < 50 {
		t.Errorf("only %d paths were found", all)
	}
}

func TestMakeTargetsThatDocumentsNameExist(t *testing.T) {
	t.Parallel()
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	gone := func(d document) (found int, gone []string) {
		for _, line := range d.code() {
			for _, m := range makeTarget.FindAllStringSubmatch(line, -1) {
				if found++; !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(m[1]) + `:`).Match(makefile) {
					gone = append(gone, m[1])
				}
			}
		}
		return found, gone
	}
	if found, got := gone(parse("", "`make nothing` `make dev`")); found != 2 || !slices.Equal(got, []string{"nothing"}) {
		t.Errorf("control: got %q", got)
	}
	for _, d := range documents(t) {
		found, got := gone(d)
		if len(got) > 0 {
			t.Errorf("%s names targets that don't exist: %s", d.path, strings.Join(got, ", "))
		}
		if d.path == "README.md" && found < 2 {
			t.Errorf("%s names only %d targets", d.path, found)
		}
	}
}
