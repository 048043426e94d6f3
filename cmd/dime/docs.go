package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dime-bus/dime/internal/arch"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/pipeline/language"
)

// newDocs writes docs/reference from what the program itself knows, so that the
// reference can't say otherwise than the code.
func newDocs() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:    "docs",
		Short:  "Write the generated reference",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := os.MkdirAll(out, 0o755); err != nil {
				return err
			}
			connectors, err := connectorReference()
			if err != nil {
				return err
			}
			for name, text := range map[string]string{
				"command-line.md":       commandReference(cmd.Root()),
				"faults.md":             faultReference(),
				"lint-rules.md":         ruleReference(),
				"connectors.md":         connectors,
				"architecture-rules.md": generated + arch.Markdown(),
			} {
				if err := os.WriteFile(filepath.Join(out, name), []byte(text), 0o644); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&out, "out", filepath.Join("docs", "reference"), "folder to write")
	return cmd
}

const generated = "<!-- Written by `make gen`; change the program, not this file. -->\n\n"

func commandReference(root *cobra.Command) string {
	var b bytes.Buffer
	b.WriteString(generated + "# Command line\n\nExit codes: 0 done, 1 not done, 2 the command line is wrong. `NO_COLOR` turns colours off.\n")
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Hidden || c.Name() == "help" || c.Name() == "completion" || c.Name() == "exit-codes" {
			return
		}
		if c != root {
			fmt.Fprintf(&b, "\n## `%s`\n\n", c.UseLine())
			if c.Long != "" {
				fmt.Fprintf(&b, "%s\n", c.Long)
			} else {
				fmt.Fprintf(&b, "%s.\n", c.Short)
			}
			flags := func(fs *pflag.FlagSet) {
				fs.VisitAll(func(f *pflag.Flag) {
					if f.Hidden || f.Name == "help" {
						return
					}
					def := ""
					if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" && f.DefValue != "0" {
						def = fmt.Sprintf(" (default `%s`)", f.DefValue)
					}
					if f.Name == "parallel" {
						def = " (default: one a processor)"
					}
					fmt.Fprintf(&b, "- `--%s`: %s%s\n", f.Name, f.Usage, def)
				})
			}
			if c.HasAvailableFlags() {
				b.WriteString("\n")
				flags(c.LocalFlags())
				flags(c.InheritedFlags())
			}
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
	return b.String()
}

func faultReference() string {
	var b bytes.Buffer
	b.WriteString(generated + "# Faults\n\nWhat an operation can answer instead of its result, and what becomes of it where the route says nothing.\n\n")
	b.WriteString("| kind | under `errors` | HTTP | title | broker | log | tried again |\n|---|---|---|---|---|---|---|\n")
	yes := map[bool]string{true: "yes", false: "no"}
	for _, r := range fault.Table() {
		fmt.Fprintf(&b, "| `%s` | %s | %d | %s | %s | %s | %s |\n", r.Kind, yes[r.Nameable], r.Status, r.Title, r.Broker,
			strings.ToLower(r.Level.String()), yes[r.Transient])
	}
	return b.String()
}

func ruleReference() string {
	var b bytes.Buffer
	b.WriteString(generated + "# Lint rules\n\n`dime lint` prints `FILE:LINE:COLUMN: MESSAGE [RULE]`. A rule can't be switched off: what lint refuses would fail at night.\n\n| rule | what it finds |\n|---|---|\n")
	for _, r := range language.Rules() {
		fmt.Fprintf(&b, "| `%s` | %s |\n", r.Name, r.About)
	}
	return b.String()
}

// connectorReference describes the shipped connectors.
func connectorReference() (string, error) {
	c := &content{disk: emptyFS{}, embedded: shippedContent()}
	l := c.load()
	if bad := refusals(l.problems); len(bad) > 0 {
		return "", refusedError{bad}
	}
	var b bytes.Buffer
	b.WriteString(generated + "# Shipped connectors\n\nOf a running bus, with the city's own: `dime connectors ls` and `dime connectors show NAME`.\n")
	for _, name := range slices.Sorted(maps.Keys(l.city.Connectors)) {
		d := l.city.Connectors[name]
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| operation | effect | once by | faults | what it does |\n|---|---|---|---|---|\n", name, d.Summary)
		for _, op := range d.Operations {
			var faults []string
			for _, f := range op.Faults {
				faults = append(faults, fmt.Sprintf("`%s` (%s)", f.Name, f.Kind))
			}
			fmt.Fprintf(&b, "| `%s.%s` | %s | %s | %s | %s |\n", name, op.Name, op.Effect,
				promise(operationView{Effect: string(op.Effect), Keyed: op.Keyed, FoundBy: op.FoundBy}), strings.Join(faults, ", "), op.Summary)
		}
	}
	return b.String(), nil
}

// emptyFS is a disk on which nothing is.
type emptyFS struct{}

func (emptyFS) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}
