package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sealkeep/sealkeep/internal/fault"
)

const (
	statusOK     = 0
	statusFailed = 1
	statusUsage  = 2
	// For commands that answer a question by their status.
	statusNo        = 1
	statusUnchecked = 2
)

// statusError ends a command with a status of its own. Without a cause, all has been said.
type statusError struct {
	status int
	usage  bool // the command line is at fault: point to the help
	cause  error
}

func (e *statusError) Error() string {
	if e.cause == nil {
		return "exit status " + strconv.Itoa(e.status)
	}
	return e.cause.Error()
}

func (e *statusError) Unwrap() error { return e.cause }

// usage is an error of the command line.
func usage(problem string) error {
	return &statusError{status: statusUsage, usage: true, cause: errors.New(problem)}
}

// badArgument is the command line's error for something that a rule of the domain refuses.
func badArgument(err error) error {
	return usage(fault.Message(err))
}

// unchecked gives an error the status that says that a check could not be made.
func unchecked(err error) error {
	var known *statusError
	if err == nil || errors.As(err, &known) {
		return err
	}
	return &statusError{status: statusUnchecked, cause: err}
}

// report prints an error and gives the exit status.
func (a *app) report(cmd *cobra.Command, err error) int {
	if err == nil {
		return statusOK
	}
	status, helpful := statusFailed, false
	var known *statusError
	if errors.As(err, &known) {
		status, helpful = known.status, known.usage
		if known.cause == nil {
			return status
		}
	}
	if errors.Is(err, context.Canceled) {
		fmt.Fprintln(a.Stderr, a.programName()+": interrupted")
		return status
	}
	for i, line := range strings.Split(err.Error(), "\n") {
		if i == 0 {
			line = a.programName() + ": " + line
		}
		fmt.Fprintln(a.Stderr, printable(line))
	}
	if helpful {
		fmt.Fprintf(a.Stderr, "Run `%s --help` for how to use it.\n", cmd.CommandPath())
	}
	return status
}
