package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/gateway"
	"github.com/dime-bus/dime/internal/pause"
	"github.com/dime-bus/dime/internal/schema"
)

func newConnectorsPause(a *admin) *cobra.Command {
	var o output
	var until, say, as string
	var dry bool
	cmd := &cobra.Command{
		Use:   "pause NAME",
		Short: "Send nothing to a connector's system until an instant",
		Long: `Send nothing to a connector's system until an instant, in all processes and over
restarts. Calls under way go on. Runs that need the connector rest, without using
up their patience, and go on in their order when the pause ends; callers who wait
get 503 with Retry-After and the sentence of --say. The event connector.paused is
published. To pause again moves the end.`,
		Example: "  dime connectors pause agenda --until 2h --say agenda-maintenance",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			zone, err := time.LoadLocation("Europe/Rome")
			if err != nil {
				return err
			}
			at, err := readUntil(until, time.Now(), zone)
			if err != nil {
				return usageError{err}
			}
			if say == "" {
				return usageError{errors.New("say what callers read meanwhile with --say KEY, a key of config/messages.yaml")}
			}
			return sendPause(cmd, a, &o, args[0], "pause", pause.Act{Until: &at, Say: say, As: as, DryRun: dry})
		},
	}
	o.flag(cmd)
	f := cmd.Flags()
	f.StringVar(&until, "until", "", "when it ends: 2h, 2026-11-25T08:00 in the city's time, or RFC 3339 (required)")
	f.StringVar(&say, "say", "", "key of the sentence that callers read meanwhile (required)")
	pauseFlags(cmd, &as, &dry)
	return cmd
}

func pauseFlags(cmd *cobra.Command, as *string, dry *bool) {
	cmd.Flags().StringVar(as, "as", os.Getenv("USER"), "who acts: your name or user, kept with the pause")
	cmd.Flags().BoolVar(dry, "dry-run", false, "say what would happen and change nothing")
}

func newConnectorsResume(a *admin) *cobra.Command {
	var o output
	var as string
	var dry bool
	cmd := &cobra.Command{
		Use:   "resume NAME",
		Short: "End a connector's pause; the runs that rest for it go on in order",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return sendPause(cmd, a, &o, args[0], "resume", pause.Act{As: as, DryRun: dry})
		},
	}
	o.flag(cmd)
	pauseFlags(cmd, &as, &dry)
	return cmd
}

func newConnectorsPauses(a *admin) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use:   "pauses",
		Short: "List the connectors that are paused",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var list struct {
				Pauses []pause.Row `json:"pauses"`
			}
			if err := a.do(cmd.Context(), http.MethodGet, "/pauses", nil, &list); err != nil {
				return err
			}
			ps := list.Pauses
			if ps == nil {
				ps = []pause.Row{}
			}
			return o.print(cmd.OutOrStdout(), ps, func(w io.Writer) error {
				rows := make([][]string, len(ps))
				for i, p := range ps {
					rows[i] = []string{p.Connector, p.Until.Local().Format(time.DateTime), p.Say, p.By}
				}
				return columns(w, []string{"CONNECTOR", "UNTIL", "CALLERS READ", "BY"}, rows)
			})
		},
	}
	o.flag(cmd)
	return cmd
}

// readUntil reads how people write an end: a duration from now, a time of the
// city's clock, or RFC 3339.
func readUntil(s string, now time.Time, zone *time.Location) (time.Time, error) {
	at, err := func() (time.Time, error) {
		if d, err := time.ParseDuration(s); err == nil {
			return now.Add(d), nil
		}
		if t, err := time.Parse(time.RFC3339, s); err == nil {
			return t, nil
		}
		for _, form := range []string{"2006-01-02T15:04", "2006-01-02 15:04"} {
			if t, err := time.ParseInLocation(form, s, zone); err == nil {
				return t, nil
			}
		}
		return time.Time{}, fmt.Errorf("--until is %q; write 2h, 2026-11-25T08:00 in the city's time, or RFC 3339", s)
	}()
	if err == nil && !at.After(now) {
		err = fmt.Errorf("--until is %q, which is over", s)
	}
	return at.UTC(), err
}

func sendPause(cmd *cobra.Command, a *admin, o *output, name, verb string, x pause.Act) error {
	if x.As == "" {
		return usageError{errors.New("say who you are with --as")}
	}
	var r pause.Report
	if err := a.do(cmd.Context(), http.MethodPost, "/connectors/"+url.PathEscape(name)+"/"+verb, x, &r); err != nil {
		return err
	}
	return o.print(cmd.OutOrStdout(), r, func(w io.Writer) error {
		dry := ""
		if r.DryRun {
			dry = " (nothing was changed)"
		}
		var err error
		if r.State == "paused" {
			_, err = fmt.Fprintf(w, "%s is paused until %s; callers read %q%s\n", r.Connector, r.Until.Local().Format(time.DateTime), r.Say, dry)
		} else {
			_, err = fmt.Fprintf(w, "%s is asked again; %d runs go on%s\n", r.Connector, r.Runs, dry)
		}
		return err
	})
}

// readPause checks an act on a connector.
func (s *server) readPause(name string, body []byte) (x pause.Act, err error) {
	if err := gateway.Decode(body, &x); err != nil {
		return x, err
	}
	city := s.engine.City()
	if _, ok := city.Connectors[name]; !ok {
		return x, fault.New(fault.NotFound, "there is no connector %q%s", name, schema.DidYouMean(name, slices.Collect(maps.Keys(city.Connectors))))
	}
	return x, gateway.Who(x.As, "a pause")
}

func (s *server) pauseTask(ctx context.Context, path func(string) string, body []byte) (any, error) {
	x, err := s.readPause(path("name"), body)
	if err != nil {
		return nil, err
	}
	return s.pauses().Begin(ctx, path("name"), x, slices.Collect(maps.Keys(s.engine.City().Messages)))
}

func (s *server) resumeTask(ctx context.Context, path func(string) string, body []byte) (any, error) {
	x, err := s.readPause(path("name"), body)
	if err != nil {
		return nil, err
	}
	return s.pauses().End(ctx, path("name"), x)
}

func (s *server) pausesTask(ctx context.Context, _ func(string) string, _ []byte) (any, error) {
	list, err := s.pauses().List(ctx)
	return map[string]any{"pauses": list}, err
}

func (s *server) pauses() *pause.Pauses {
	return &pause.Pauses{Table: s.store.Table(pause.Owner), Key: s.store.Key, Apply: s.guards.pause,
		Resume: s.engine.Resume, Publish: s.publishEvent, Log: s.log}
}

// breaker tells the city that a connector's system was given up, or answers again.
func (s *server) breaker(connector string, degraded bool) {
	word, level := "connector.recovered", s.log.Info
	if degraded {
		word, level = "connector.degraded", s.log.Warn
	}
	level("a connector's breaker turned", "connector", connector, "event", word)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	now := time.Now().UTC()
	err := s.publishEvent(ctx, word, s.store.Key(word, connector, s.worker, now.Format(time.RFC3339Nano)),
		map[string]any{"connector": connector, "at": now.Format(time.RFC3339)})
	if err != nil {
		s.log.Warn("publishing that a breaker turned", "event", word, "connector", connector, "error", err)
	}
}
