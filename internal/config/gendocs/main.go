// Command gendocs writes docs/configuration.md from what package config declares, so that the manual can't tell of a
// variable that nothing reads, nor miss one.
//
// Invariants:
//   - The text depends on the declarations alone: making it again gives the same bytes.
package main

import (
	"fmt"
	"log"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/sealkeep/sealkeep/internal/config"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: gendocs FILE")
	}
	//nolint:gosec // a document that everybody may read
	if err := os.WriteFile(os.Args[1], []byte(render(config.Variables())), 0o644); err != nil {
		log.Fatal(err)
	}
}

const introduction = `<!-- Generated from internal/config by "make generate"; change it there. -->

# Configuration

Every program is configured by its environment. At start it reads all of it, reports everything that is wrong with it
at once, and serves only when nothing is.

- An empty variable counts as unset.
- A variable marked *secret* can be given as a file: append ` + "`_FILE`" + ` to its name and write the path. The file's trailing
  line ending isn't part of the value. Giving both is an error.
- Secrets, and the paths of their files, are never logged and never part of a message.
- A ` + "`VAULT_*`" + ` variable that no program of this release knows is named in a warning at start.

What an API server (` + "`api`" + `) and a rotator (` + "`rotator`" + `) read, and what the offline commands of the CLI (` + "`sealkeep`" + `) read that work on the
database:

`

// render gives the document.
func render(variables []config.Variable) string {
	var b strings.Builder
	b.WriteString(introduction)
	b.WriteString("| variable | value | default | meaning | read by |\n| --- | --- | --- | --- | --- |\n")
	for _, v := range variables {
		name := "`" + v.Name + "`"
		if v.Secret {
			name += " or `" + v.Name + "_FILE`, *secret*"
		}
		value := v.Type
		if least, most, bounded := v.Bounds(); bounded {
			value += fmt.Sprintf(", %d to %d", least, most)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n",
			name, cell(value), byDefault(v), cell(v.Meaning), strings.Join(v.Programs, ", "))
	}
	return b.String()
}

// byDefault gives a variable's default, and after it those of the programs that have others.
func byDefault(v config.Variable) string {
	text := "none"
	if v.Default != "" {
		text = "`" + v.Default + "`"
	}
	for _, program := range slices.Sorted(maps.Keys(v.Otherwise)) {
		text += "; " + program + " `" + v.Otherwise[program] + "`"
	}
	return text
}

// cell keeps a text from ending its cell.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
