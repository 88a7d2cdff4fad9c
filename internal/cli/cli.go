package cli

import (
	"context"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sealkeep/sealkeep/internal/boot"
)

// Invocation is one call of the program: all that its commands depend on, besides files and the network.
type Invocation struct {
	Program string   // how the program was called, argv[0]; what a printed command line begins with
	Args    []string // without the program's name
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer
	Environ map[string]string // the environment, one entry per variable
}

// Run executes one command line and returns the exit status: 0 for success, 1 for failure, 2 for a wrong command line,
// and for `secret verify`, `audit verify` and `doctor` 0, 1 (not valid, tampering) or 2 (could not check). Errors are on Stderr. A
// command ends early when the context does.
func Run(ctx context.Context, inv Invocation) int {
	a := &app{Invocation: inv}
	root := a.rootCommand()
	root.SetArgs(inv.Args)
	if inv.Args == nil {
		root.SetArgs([]string{}) // nil would make the library read the process's own
	}
	root.SetIn(inv.Stdin)
	root.SetOut(inv.Stdout)
	root.SetErr(inv.Stderr)
	cmd, err := root.ExecuteContextC(ctx)
	return a.report(cmd, err)
}

// app carries the invocation to its commands.
type app struct {
	Invocation
}

// programName is how help texts call the program.
func (a *app) programName() string {
	if base := filepath.Base(a.Program); base != "." && base != string(filepath.Separator) {
		return base
	}
	return "sealkeep"
}

func (a *app) rootCommand() *cobra.Command {
	root := a.group(&cobra.Command{
		Use:   a.programName(),
		Short: "A secrets vault on PostgreSQL",
		Long: `Sealkeep is a secrets vault on PostgreSQL.

Commands that speak to the API read VAULT_ADDR (default ` + defaultAddress + `) and VAULT_TOKEN.
Offline commands (migrate, init, token recover, audit verify, keyring, doctor) reach the database and the KMS
themselves and read the VAULT_* variables of the servers. What they print is a table, on a terminal or not; --json
makes it JSON.

Exit status: 0 success, 1 failure, 2 wrong command line; secret verify, audit verify and doctor have their own.`,
		SilenceErrors: true,
		SilenceUsage:  true,
	},
		a.devCommand(),
		a.migrateCommand(),
		a.initCommand(),
		a.tokenCommand(),
		a.roleCommand(),
		a.secretCommand(),
		a.rotationCommand(),
		a.jobsCommand(),
		a.auditCommand(),
		a.keyringCommand(),
		a.rewrapCommand(),
		a.doctorCommand(),
		a.versionCommand(),
		a.childCommand(apiChildName, boot.APIProgram),
		a.childCommand(rotatorChildName, boot.RotatorProgram),
	)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage(flagProblem(cmd, err))
	})
	root.Version = versionLine() // which makes --version
	root.SetVersionTemplate("{{.Version}}\n")
	completeNoFiles(root)
	return root
}

// completeNoFiles keeps shells from offering files where commands take names.
func completeNoFiles(cmd *cobra.Command) {
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	for _, sub := range cmd.Commands() {
		completeNoFiles(sub)
	}
}

// group makes a command that only has subcommands.
func (a *app) group(cmd *cobra.Command, subcommands ...*cobra.Command) *cobra.Command {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			cmd.SetOut(a.Stderr)
			_ = cmd.Help() // to a terminal: there is nobody left to tell
			return &statusError{status: statusUsage}
		}
		problem := "there is no command " + quoteName(args[0]) + " of " + cmd.CommandPath()
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			problem += "; did you mean " + strings.Join(near, " or ") + "?"
		}
		return usage(problem)
	}
	cmd.AddCommand(subcommands...)
	return cmd
}

// flagProblem rewords what the flag library says where that could show a value, or leave the user without a way.
func flagProblem(cmd *cobra.Command, err error) string {
	text := err.Error()
	// "unknown shorthand flag: 'v' in -vhunter2" repeats the rest of the argument.
	if before, _, found := strings.Cut(text, " in -"); found {
		text = before
	}
	for _, name := range []string{"--value", "--password"} {
		if text == "unknown flag: "+name && cmd.Flags().Lookup("value-file") != nil {
			return text + ": " + noValueArgument
		}
	}
	return text
}

// noArguments refuses arguments.
func noArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage("this command takes no arguments")
	}
	return nil
}

// oneName requires exactly one argument, the name of something; none of it is repeated in an error, as it may be a
// value in the wrong place.
func oneName(what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch len(args) {
		case 1:
			return nil
		case 0:
			return usage("give the name of the " + what)
		}
		return usage("give one name of a " + what + ", not several")
	}
}

// oneSecret requires the name of one secret where a value belongs to it: a second argument is probably that value.
func oneSecret(_ *cobra.Command, args []string) error {
	switch len(args) {
	case 1:
		return nil
	case 0:
		return usage("give the name of the secret")
	}
	return usage(noValueArgument)
}

const noValueArgument = "a value is never taken from the command line, where process lists and shell histories show it: " +
	"pipe it in, or give --value-file FILE"
