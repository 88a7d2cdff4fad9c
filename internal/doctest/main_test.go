// Package doctest holds the documents against what they speak of: the tests, files, commands, targets, variables and
// routes that they name exist, and docs/threat-model.md leaves out nothing of the threat model that it answers.
//
// It knows the documents by folder, so that a new one is covered the day it is written. Each check is shown to fail on
// something that doesn't exist.
package doctest

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const root = "../.."

// document is one file of Markdown.
type document struct {
	path   string // from the root of the repository
	text   string
	spans  []string // what is between backticks in running text
	blocks []block  // what is fenced
	prose  string   // the text without its fenced blocks
}

type block struct {
	language string
	text     string
}

var (
	fence = regexp.MustCompile("(?ms)^```([a-z-]*)\n(.*?)^```$")
	span  = regexp.MustCompile("`([^`]+)`")
)

func parse(path, text string) document {
	d := document{path: path, text: text, prose: fence.ReplaceAllString(text, "")}
	for _, m := range fence.FindAllStringSubmatch(text, -1) {
		d.blocks = append(d.blocks, block{language: m[1], text: m[2]})
	}
	for _, m := range span.FindAllStringSubmatch(d.prose, -1) {
		d.spans = append(d.spans, strings.Join(strings.Fields(m[1]), " "))
	}
	return d
}

// documents reads all of them.
func documents(t *testing.T) []document {
	t.Helper()
	var all []document
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md"} {
		paths, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			name, err := filepath.Rel(root, path)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, parse(filepath.ToSlash(name), string(text)))
		}
	}
	for _, expected := range []string{"README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/threat-model.md"} {
		if !slices.ContainsFunc(all, func(d document) bool { return d.path == expected }) {
			t.Errorf("%s is missing", expected)
		}
	}
	return all
}

func the(t *testing.T, path string) document {
	t.Helper()
	for _, d := range documents(t) {
		if d.path == path {
			return d
		}
	}
	t.Fatalf("%s is missing", path)
	return document{}
}

// code gives all that a document shows as code: its spans, and its blocks line by line, with continued lines joined.
func (d document) code() []string {
	all := slices.Clone(d.spans)
	for _, b := range d.blocks {
		all = append(all, strings.Split(strings.ReplaceAll(b.text, "\\\n", " "), "\n")...)
	}
	return all
}
