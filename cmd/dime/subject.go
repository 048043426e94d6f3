package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dime-bus/dime/cmd/dime/trail"
	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/gateway"
	"github.com/dime-bus/dime/internal/taxcode"
	"github.com/dime-bus/dime/pipeline/run"
	"github.com/dime-bus/dime/pipeline/run/erasing"
)

func newSubject() *cobra.Command {
	var a admin
	cmd := &cobra.Command{
		Use:   "subject",
		Short: "Erase or export what a live server keeps of a person",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	adminFlag(&a, cmd)
	cmd.AddCommand(newSubjectErase(&a), newSubjectErasures(&a), newSubjectExport(&a))
	return cmd
}

// erase is the body of POST /subjects/erase and /subjects/export.
type erase struct {
	Subject string `json:"subject"`
	As      string `json:"as"`
	Reason  string `json:"reason"`
	DryRun  bool   `json:"dry_run,omitempty"`
}

func newSubjectErase(a *admin) *cobra.Command {
	var o output
	var x erase
	cmd := &cobra.Command{
		Use:   "erase TAX_CODE",
		Short: "Destroy the keys of a person's data",
		Long: `Destroy the keys of a person's data, and with them the content of all runs that
were sealed for that person alone, and of their attachments. There is no way back.

Nothing is refused. Live runs of the person have 30 days to end; then they are
cancelled, what they did is undone, and the keys are destroyed (dime subject
erasures shows where it stands). What stays: the skeletons of the runs (steps,
times, no content), runs that concern another person too, and for as long as the
law or the clock says: events and messages (7 days), issued documents, and what
the city's systems keep. Backups hold the old keys: the list of erasures, DATA.erasures,
has a restore destroy them again; copy it apart from the backups now.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if x.As == "" || x.Reason == "" {
				return usageError{fmt.Errorf("this erases a person's data: say who you are with --as and why with --reason")}
			}
			x.Subject = args[0]
			var r erasing.Report
			if err := a.do(cmd.Context(), http.MethodPost, "/subjects/erase", x, &r); err != nil {
				return err
			}
			return o.print(cmd.OutOrStdout(), r, func(w io.Writer) error { return printErasure(w, r) })
		},
	}
	o.flag(cmd)
	f := cmd.Flags()
	f.StringVar(&x.As, "as", "", "who erases: your name or user, kept with the request (required)")
	f.StringVar(&x.Reason, "reason", "", "why, kept with the request (required)")
	f.BoolVar(&x.DryRun, "dry-run", false, "say what would be destroyed and change nothing")
	return cmd
}

func printErasure(w io.Writer, r erasing.Report) error {
	would, is := "", "is"
	if r.DryRun {
		would, is = "nothing was changed; ", "would be"
	}
	var err error
	switch {
	case r.State == erasing.Erased && r.Runs == 0:
		_, err = fmt.Fprintf(w, "%sno run is sealed for this person: there is nothing to destroy\n", would)
	case r.State == erasing.Erased:
		_, err = fmt.Fprintf(w, "%sthe content of %d runs %s destroyed\n", would, r.Runs, is)
	default:
		_, err = fmt.Fprintf(w, "%s%d live runs are waited for; on %s they are cancelled and undone, then the content of %d runs is destroyed\n",
			would, len(r.Live), r.Until.Local().Format(time.DateTime), r.Runs)
		for _, l := range r.Live {
			fmt.Fprintf(w, "  %s  %s  %s\n", l.Run, l.Route, l.State)
		}
	}
	if r.Forgotten != nil && err == nil {
		_, err = fmt.Fprintf(w, "events and messages that name this person are gone on %s; issued documents stay as the law says\n", r.Forgotten.Local().Format(time.DateTime))
	}
	return err
}

func newSubjectErasures(a *admin) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use:   "erasures",
		Short: "List the requests for erasure, open and done, oldest first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var list struct {
				Erasures []erasing.Report `json:"erasures"`
			}
			if err := a.do(cmd.Context(), http.MethodGet, "/subjects/erasures", nil, &list); err != nil {
				return err
			}
			rs := list.Erasures
			if rs == nil {
				rs = []erasing.Report{}
			}
			return o.print(cmd.OutOrStdout(), rs, func(w io.Writer) error {
				rows := make([][]string, len(rs))
				for i, r := range rs {
					rows[i] = []string{r.ID, r.State, r.Asked.Local().Format(time.DateTime), fmt.Sprint(len(r.Live)), r.As, r.Reason}
				}
				return columns(w, []string{"REQUEST", "STATE", "ASKED", "LIVE", "BY", "REASON"}, rows)
			})
		},
	}
	o.flag(cmd)
	return cmd
}

// desk takes the requests for erasure.
func (s *server) desk() (*erasing.Desk, error) {
	m, ok := s.store.(erasing.Memory)
	if !ok {
		return nil, errors.New("the store can't look for a person's runs")
	}
	return &erasing.Desk{Store: m, Clock: clock.Real{}, Log: s.log, Audit: s.trail.Destroys,
		Cancel: func(ctx context.Context, id, as, reason string) error {
			if err := s.trail.Record(ctx, as, "runs.cancel", id, reason, map[string]any{"by": "erasure"}); err != nil {
				return err
			}
			_, err := s.engine.Cancel(ctx, id, run.Act{As: as, Reason: reason})
			return err
		}}, nil
}

// readErase checks an act on a person.
func readErase(body []byte) (x erase, err error) {
	if err := gateway.Decode(body, &x); err != nil {
		return x, err
	}
	if err := gateway.Who(x.As, x.Reason); err != nil {
		return x, err
	}
	// A slip of the pen would reach nobody and say that all is well.
	if !taxcode.Valid(strings.ToUpper(strings.TrimSpace(x.Subject))) {
		return x, &fault.Error{Kind: fault.Invalid, Pointer: "/subject", Detail: "this is no codice fiscale: a letter or its check character is wrong"}
	}
	return x, nil
}

func (s *server) eraseTask(ctx context.Context, _ func(string) string, body []byte) (any, error) {
	x, err := readErase(body)
	if err != nil {
		return nil, err
	}
	d, err := s.desk()
	if err != nil {
		return nil, err
	}
	r, err := d.Ask(ctx, x.Subject, x.As, x.Reason, x.DryRun)
	if err == nil && !x.DryRun {
		s.log.Info("a person's data are to be erased", "request", r.ID, "state", r.State, "as", x.As)
	}
	return r, err
}

func (s *server) erasuresTask(ctx context.Context, _ func(string) string, _ []byte) (any, error) {
	d, err := s.desk()
	if err != nil {
		return nil, err
	}
	rs, err := d.List(ctx)
	return map[string]any{"erasures": rs}, err
}

func newSubjectExport(a *admin) *cobra.Command {
	return trail.SubjectExport(func(ctx context.Context, in, out any) error {
		return a.do(ctx, http.MethodPost, "/subjects/export", in, out)
	}, func(err error) error { return usageError{err} })
}

func (s *server) exportTask(ctx context.Context, _ func(string) string, body []byte) (any, error) {
	x, err := readErase(body)
	if err != nil {
		return nil, err
	}
	return trail.Gather(ctx, s.store, s.engine.City(), busLog{s.bus}.Log, s.documents, x.Subject)
}
