package trail

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/dime-bus/dime/internal/document/archive"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/pipeline/language"
	"github.com/dime-bus/dime/pipeline/run/disclosing"
)

// SubjectExport is `dime subject export`; ask sends the body of POST
// /subjects/export to the server.
func SubjectExport(ask func(ctx context.Context, in, out any) error, usage func(error) error) *cobra.Command {
	var as, reason string
	cmd := &cobra.Command{
		Use:   "export TAX_CODE",
		Short: "Write all that the bus holds of a person, in clear, for who asks for it",
		Long: `Write all that the bus holds of a person to the standard output, as JSON and in
clear, to answer a request for access (GDPR art. 15): the runs that are sealed for
that person with their timelines, the events of the last days that name him, and the
documents that were issued to him. What it does not hold is listed under "elsewhere".

A run that is marked "shared" concerns other persons too: take their data out before
you hand it over. Who exported whom, and why, is in the audit.`,
		Example: "  dime subject export RSSMRA80A01L736U --as anna --reason 'request 112/2026' > person.json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if as == "" || reason == "" {
				return usage(errors.New("this shows a person's data: say who you are with --as and why with --reason"))
			}
			var v json.RawMessage
			if err := ask(cmd.Context(), map[string]string{"subject": args[0], "as": as, "reason": reason}, &v); err != nil {
				return err
			}
			enc := json.NewEncoder(cmd.OutOrStdout())
			enc.SetEscapeHTML(false)
			enc.SetIndent("", "  ")
			return enc.Encode(v)
		},
	}
	f := cmd.Flags()
	f.StringVar(&as, "as", "", "who exports: your name or user, kept in the audit (required)")
	f.StringVar(&reason, "reason", "", "why, kept in the audit (required)")
	return cmd
}

// Gather reads what is held of a person. documents may be nil.
func Gather(ctx context.Context, s store.Store, city *language.City, log func(context.Context, string, int64, int) ([]store.Message, error),
	documents *archive.Archive, subject string) (any, error) {
	m, ok := s.(disclosing.Memory)
	if !ok {
		return nil, errors.New("the store can't look for a person's runs")
	}
	d := disclosing.Desk{Store: m, Log: log, Topics: slices.Collect(maps.Keys(city.Events)), Now: time.Now,
		Purpose: func(route string) string {
			if r := city.Routes[route]; r != nil {
				return r.Purpose
			}
			return ""
		}}
	if documents != nil {
		d.Documents = func(ctx context.Context, who string) (any, error) { return documents.HeldBy(ctx, who) }
	}
	return d.Gather(ctx, subject)
}
