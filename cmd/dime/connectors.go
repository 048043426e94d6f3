package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
)

// connectorView is a connector as the admin listener describes it.
type connectorView struct {
	Name       string          `json:"name"`
	Summary    string          `json:"summary"`
	Operations []operationView `json:"operations"`
	Warnings   []string        `json:"warnings,omitempty"`
}

type operationView struct {
	Name    string      `json:"name"`
	Summary string      `json:"summary"`
	Effect  string      `json:"effect"`
	Keyed   bool        `json:"keyed"`
	FoundBy string      `json:"found_by"`
	Basis   string      `json:"basis,omitempty"`
	In      []fieldView `json:"in,omitempty"`
	Out     []fieldView `json:"out,omitempty"`
	Faults  []faultView `json:"faults,omitempty"`
}

// fieldView is one value inside what an operation takes or answers.
type fieldView struct {
	Name     string `json:"name"`
	Type     string `json:"type"`
	Required bool   `json:"required"`
	Personal bool   `json:"personal,omitempty"`
}

type faultView struct {
	Name    string `json:"name"`
	Kind    string `json:"kind"`
	Summary string `json:"summary,omitempty"`
}

// brief leaves what the listing promises and no more; `show` has the rest.
func (c *connectorView) brief() {
	c.Warnings = nil
	if c.Operations == nil {
		c.Operations = []operationView{}
	}
	for i, op := range c.Operations {
		c.Operations[i] = operationView{Name: op.Name, Summary: op.Summary, Effect: op.Effect, Keyed: op.Keyed, FoundBy: op.FoundBy}
	}
}

func newConnectors() *cobra.Command {
	var a admin
	cmd := &cobra.Command{
		Use:   "connectors",
		Short: "List, describe and pause the connectors of a live server",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	adminFlag(&a, cmd)
	cmd.AddCommand(newConnectorsLs(&a), newConnectorsShow(&a), newConnectorsPause(&a), newConnectorsResume(&a), newConnectorsPauses(&a))
	return cmd
}

func newConnectorsLs(a *admin) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List connectors and their operations",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cs := []connectorView{}
			if err := a.do(cmd.Context(), http.MethodGet, "/connectors", nil, &cs); err != nil {
				return err
			}
			for i := range cs {
				cs[i].brief()
			}
			return o.print(cmd.OutOrStdout(), cs, func(w io.Writer) error {
				var rows [][]string
				for _, c := range cs {
					for _, op := range c.Operations {
						rows = append(rows, []string{c.Name + "." + op.Name, op.Effect, promise(op), op.Summary})
					}
				}
				return columns(w, []string{"OPERATION", "EFFECT", "ONCE BY", "SUMMARY"}, rows)
			})
		},
	}
	o.flag(cmd)
	return cmd
}

// promise says in a word how an effect is kept from happening twice.
func promise(op operationView) string {
	var ps []string
	if op.Keyed {
		ps = append(ps, "key")
	}
	if op.FoundBy != "" {
		ps = append(ps, op.FoundBy)
	}
	if len(ps) == 0 && op.Effect != "safe" {
		return "nothing: parks in doubt"
	}
	return strings.Join(ps, ", ")
}

func newConnectorsShow(a *admin) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use:   "show NAME",
		Short: "Describe a connector: operations, schemas, faults, warnings of its document",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var c connectorView
			if err := a.do(cmd.Context(), http.MethodGet, "/connectors/"+url.PathEscape(args[0]), nil, &c); err != nil {
				return err
			}
			return o.print(cmd.OutOrStdout(), c, func(w io.Writer) error { return describeConnector(w, c) })
		},
	}
	o.flag(cmd)
	return cmd
}

// describeFields prints one line a field; `?` marks those that may be absent.
func describeFields(w io.Writer, word string, fs []fieldView) {
	for i, f := range fs {
		if i > 0 {
			word = ""
		}
		name := f.Name
		if !f.Required {
			name += "?"
		}
		if name != "" {
			name += ": "
		}
		personal := ""
		if f.Personal {
			personal = ", personal"
		}
		fmt.Fprintf(w, "  %-7s  %s%s%s\n", word, name, f.Type, personal)
	}
}

func dashed(s string) string {
	if s == "" {
		return ""
	}
	return ": " + s
}

func describeConnector(w io.Writer, c connectorView) error {
	fmt.Fprintf(w, "%s: %s\n", c.Name, c.Summary)
	for _, op := range c.Operations {
		fmt.Fprintf(w, "\n%s.%s  [%s", c.Name, op.Name, op.Effect)
		if p := promise(op); p != "" {
			fmt.Fprintf(w, "; once by %s", p)
		}
		fmt.Fprintf(w, "]\n  %s\n", op.Summary)
		if op.Basis != "" {
			fmt.Fprintf(w, "  rests on: %s\n", op.Basis)
		}
		describeFields(w, "takes", op.In)
		describeFields(w, "gives", op.Out)
		for _, f := range op.Faults {
			fmt.Fprintf(w, "  refuses  %s (%s)%s\n", f.Name, f.Kind, dashed(f.Summary))
		}
	}
	for _, warn := range c.Warnings {
		fmt.Fprintf(w, "\n%s %s\n", paint(w, yellow, "warning:"), warn)
	}
	return nil
}
