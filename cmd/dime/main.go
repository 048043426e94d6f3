// Command dime is a city's integration bus: one binary that checks, tests,
// serves and mends the city's routes.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes, as documented in `dime help exit-codes`.
const (
	exitOK    = 0
	exitFault = 1 // what was asked for did not succeed
	exitUsage = 2 // the command line is wrong
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(execute(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// errQuiet ends a command with exit code 1 when its output has said it all.
var errQuiet = errors.New("")

// usageError ends a command with exit code 2.
type usageError struct{ error }

// execute runs one command line and returns its exit code.
func execute(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errQuiet):
		return exitFault
	case errors.As(err, &usage), isCobraUsage(err):
		fmt.Fprintf(errOut, "dime: %v\nRun \"dime help\" for usage.\n", err)
		return exitUsage
	default:
		fmt.Fprintf(errOut, "dime: %v\n", err)
		return exitFault
	}
}

// isCobraUsage recognises the errors that cobra makes by itself and gives no type to.
func isCobraUsage(err error) bool {
	s := err.Error()
	for _, p := range []string{"unknown command", "required flag", "accepts ", "requires at least"} {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "dime",
		Short:         "A city's integration bus: YAML routes that are checked, run, traced, retried and undone",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(
		newServe(), newCity(), newLint(), newTest(), newToken(),
		newRuns(), newEvents(), newDocuments(), newConnectors(), newVersion(), newDocs(),
		newBackup(), newRestore(), newSubject(), newKeys(), newDoctor(), newMigrate(), newAudit(),
		&cobra.Command{
			Use:   "exit-codes",
			Short: "What the exit codes of dime mean",
			Long: `0  what was asked for was done
1  it was not: lint found errors, a test failed, the server refused
2  the command line is wrong`,
		},
	)
	return root
}
