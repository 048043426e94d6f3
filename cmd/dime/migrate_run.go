package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/dime-bus/dime/internal/gateway"
	"github.com/dime-bus/dime/pipeline/run/moving"
)

// moveAct is the body of POST /runs/{run}/migrate.
type moveAct struct {
	To     string `json:"to"`
	As     string `json:"as"`
	Reason string `json:"reason"`
	DryRun bool   `json:"dry_run"`
}

func newRunsMigrate(a *admin) *cobra.Command {
	var o output
	var x moveAct
	cmd := &cobra.Command{
		Use:   "migrate RUN",
		Short: "Give a waiting or parked run another version of its route",
		Long: `Give a waiting or parked run another version of its route. It rests where it was
and goes on by the new version's steps.

What the run has recorded must be there in the new version, under the same paths
and with types that fit: each thing that does not is said, and nothing is changed.
Steps that the new version has before the place where the run rests are done when
it goes on: --dry-run lists them. A parked run stays parked: dime runs replay.`,
		Example: "  dime runs migrate RUN --to 3 --as anna --reason 'the fee changed' --dry-run",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if x.As == "" || x.Reason == "" {
				return usageError{errors.New("this changes a run: say who you are with --as and why with --reason")}
			}
			if x.To == "" {
				return usageError{errors.New("say which version it is moved to with --to")}
			}
			var r moving.Report
			if err := a.do(cmd.Context(), http.MethodPost, "/runs/"+url.PathEscape(args[0])+"/migrate", x, &r); err != nil {
				return err
			}
			return o.print(cmd.OutOrStdout(), r, func(w io.Writer) error { return printMove(w, r) })
		},
	}
	o.flag(cmd)
	f := cmd.Flags()
	f.StringVar(&x.To, "to", "", "the version: its number, or six characters or more of its digest (required)")
	f.StringVar(&x.As, "as", "", "who acts: your name or user, for the run's journal (required)")
	f.StringVar(&x.Reason, "reason", "", "why, for the run's journal (required)")
	f.BoolVar(&x.DryRun, "dry-run", false, "say what would happen and change nothing")
	return cmd
}

func printMove(w io.Writer, r moving.Report) error {
	word := "is moved"
	switch {
	case len(r.Unfit) > 0:
		word = "can't be moved"
	case r.DryRun:
		word = "would be moved"
	}
	fmt.Fprintf(w, "run %s of %s (%s) %s from version %d (%.12s) to version %d (%.12s)\n",
		r.Run, r.Route, r.State, word, r.From.Label, r.From.Digest, r.To.Label, r.To.Digest)
	for _, why := range r.Unfit {
		fmt.Fprintln(w, "  does not fit: "+why)
	}
	for _, path := range r.New {
		fmt.Fprintln(w, "  done when it goes on: "+path)
	}
	if r.DryRun {
		_, err := fmt.Fprintln(w, "nothing was changed")
		return err
	}
	return nil
}

func (s *server) moveTask(ctx context.Context, path func(string) string, body []byte) (any, error) {
	var x moveAct
	if err := gateway.Decode(body, &x); err != nil {
		return nil, err
	}
	if err := gateway.Who(x.As, x.Reason); err != nil {
		return nil, err
	}
	m := moving.Mover{Store: s.store, Worker: s.worker, Now: time.Now, Compile: s.engine.Compiled}
	r, err := m.Move(ctx, moving.Request{Run: path("run"), To: x.To, As: x.As, Reason: x.Reason, DryRun: x.DryRun})
	if err == nil && !x.DryRun {
		s.log.Info("a person moved a run to another version", "run", r.Run, "route", r.Route, "to", r.To.Digest, "as", x.As)
	}
	return r, err
}
