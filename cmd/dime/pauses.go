package main

import (
	"context"
	"encoding/json"
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

	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/gateway"
	"github.com/dime-bus/dime/internal/schema"
)

// pauseRow is a pause as it is kept, by the connector's name.
type pauseRow struct {
	Connector string    `json:"connector"`
	Since     time.Time `json:"since"`
	Until     time.Time `json:"until"`
	Say       string    `json:"say"`
	By        string    `json:"by"`
}

// pausesOwner is the table's; every process looks into it so often.
const (
	pausesOwner = "pauses"
	pausesLook  = time.Second
)

// longestPause is a mistyped year's end.
const longestPause = 366 * 24 * time.Hour

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
			return sendPause(cmd, a, &o, args[0], "pause", pauseAct{Until: &at, Say: say, As: as, DryRun: dry})
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
			return sendPause(cmd, a, &o, args[0], "resume", pauseAct{As: as, DryRun: dry})
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
				Pauses []pauseRow `json:"pauses"`
			}
			if err := a.do(cmd.Context(), http.MethodGet, "/pauses", nil, &list); err != nil {
				return err
			}
			ps := list.Pauses
			if ps == nil {
				ps = []pauseRow{}
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

// pauseAct is the body of POST /connectors/{name}/pause and resume.
type pauseAct struct {
	Until  *time.Time `json:"until,omitempty"`
	Say    string     `json:"say,omitempty"`
	As     string     `json:"as"`
	DryRun bool       `json:"dry_run,omitempty"`
}

// pauseReport says what an act did.
type pauseReport struct {
	pauseRow
	State  string `json:"state"` // paused, resumed
	Runs   int    `json:"runs"`  // that went on
	DryRun bool   `json:"dry_run"`
}

func sendPause(cmd *cobra.Command, a *admin, o *output, name, verb string, x pauseAct) error {
	if x.As == "" {
		return usageError{errors.New("say who you are with --as")}
	}
	var r pauseReport
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
func (s *server) readPause(name string, body []byte) (x pauseAct, err error) {
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
	name := path("name")
	x, err := s.readPause(name, body)
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC()
	messages := s.engine.City().Messages
	switch _, known := messages[x.Say]; {
	case x.Until == nil || !x.Until.After(now) || x.Until.Sub(now) > longestPause:
		return nil, &fault.Error{Kind: fault.Invalid, Pointer: "/until", Detail: "`until` must be an instant to come, within a year"}
	case !known:
		return nil, &fault.Error{Kind: fault.Invalid, Pointer: "/say", Detail: fmt.Sprintf("config/messages.yaml has no sentence %q%s", x.Say, schema.DidYouMean(x.Say, slices.Collect(maps.Keys(messages))))}
	}
	p := pauseRow{Connector: name, Since: now, Until: x.Until.UTC(), Say: x.Say, By: x.As}
	r := pauseReport{pauseRow: p, State: "paused", DryRun: x.DryRun}
	if x.DryRun {
		return r, nil
	}
	b, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	if err := s.store.Table(pausesOwner).Update(ctx, name, func([]byte) ([]byte, error) { return b, nil }); err != nil {
		return nil, fmt.Errorf("pausing %s: %w", name, err)
	}
	if err := s.loadPauses(ctx); err != nil {
		return nil, err
	}
	s.log.Info("a person paused a connector", "connector", name, "until", p.Until, "as", x.As)
	return r, s.tellPaused(ctx, p)
}

func (s *server) resumeTask(ctx context.Context, path func(string) string, body []byte) (any, error) {
	name := path("name")
	x, err := s.readPause(name, body)
	if err != nil {
		return nil, err
	}
	ps, err := s.pauses(ctx)
	if err != nil {
		return nil, err
	}
	p, ok := ps[name]
	if !ok {
		return nil, fault.New(fault.Conflict, "connector %s is not paused", name)
	}
	r := pauseReport{pauseRow: p, State: "resumed", DryRun: x.DryRun}
	if x.DryRun {
		return r, nil
	}
	if r.Runs, err = s.resume(ctx, p, x.As); err != nil {
		return nil, err
	}
	s.log.Info("a person resumed a connector", "connector", name, "runs", r.Runs, "as", x.As)
	return r, nil
}

func (s *server) pausesTask(ctx context.Context, _ func(string) string, _ []byte) (any, error) {
	ps, err := s.pauses(ctx)
	list := []pauseRow{}
	for _, name := range slices.Sorted(maps.Keys(ps)) {
		list = append(list, ps[name])
	}
	return map[string]any{"pauses": list}, err
}

// pauses reads what is paused, over its end or not.
func (s *server) pauses(ctx context.Context) (map[string]pauseRow, error) {
	rows, err := s.store.Table(pausesOwner).List(ctx, "", "", 10_000)
	if err != nil {
		return nil, fmt.Errorf("reading the pauses of connectors: %w", err)
	}
	out := make(map[string]pauseRow, len(rows))
	for _, r := range rows {
		var p pauseRow
		if err := json.Unmarshal(r.Value, &p); err != nil {
			return nil, fmt.Errorf("reading the pause of %s: %w", r.Key, err)
		}
		out[r.Key] = p
	}
	return out, nil
}

// resume ends a pause. Its row is over first, for other processes look at it, and
// goes last, so that what a crash interrupts is gone over again.
func (s *server) resume(ctx context.Context, p pauseRow, by string) (n int, err error) {
	same := func(change func(pauseRow) ([]byte, error)) error {
		err := s.store.Table(pausesOwner).Update(ctx, p.Connector, func(old []byte) ([]byte, error) {
			var now pauseRow
			if old == nil {
				return nil, nil
			}
			if err := json.Unmarshal(old, &now); err != nil {
				return nil, err
			}
			if !now.Since.Equal(p.Since) { // another pause has begun
				return old, nil
			}
			return change(now)
		})
		if err != nil {
			return fmt.Errorf("ending the pause of %s: %w", p.Connector, err)
		}
		return nil
	}
	now := time.Now().UTC()
	err = same(func(kept pauseRow) ([]byte, error) {
		if now.Before(kept.Until) {
			kept.Until = now
		}
		return json.Marshal(kept)
	})
	if err == nil {
		err = s.loadPauses(ctx)
	}
	if err != nil {
		return 0, err
	}
	if n, err = s.engine.Resume(ctx, p.Connector); err != nil {
		return n, err
	}
	data := map[string]any{"connector": p.Connector, "at": now.Format(time.RFC3339)}
	if by != "" {
		data["by"] = by
	}
	if err := s.publishEvent(ctx, "connector.resumed", s.pauseID("resumed", p), data); err != nil {
		return n, err
	}
	return n, same(func(pauseRow) ([]byte, error) { return nil, nil })
}

func (s *server) pauseID(word string, p pauseRow) string {
	return s.store.Key("connector."+word, p.Connector, p.Since.Format(time.RFC3339Nano))
}

// tellPaused publishes the event; a repetition has the same id.
func (s *server) tellPaused(ctx context.Context, p pauseRow) error {
	return s.publishEvent(ctx, "connector.paused", s.pauseID("paused", p), map[string]any{
		"connector": p.Connector, "at": p.Since.Format(time.RFC3339), "until": p.Until.Format(time.RFC3339), "say": p.Say, "by": p.By})
}

// loadPauses puts the pauses that are kept in force, before anything is called.
func (s *server) loadPauses(ctx context.Context) error {
	ps, err := s.pauses(ctx)
	if err == nil {
		s.guards.pause(ps)
	}
	return err
}

// watchPauses follows what other processes paused, and ends what is over.
func (s *server) watchPauses(ctx context.Context) {
	told := false
	for clock.Sleep(ctx, clock.Real{}, pausesLook) == nil {
		ps, err := s.pauses(ctx)
		if err == nil {
			s.guards.pause(ps)
		}
		for _, p := range ps {
			if err == nil && !told { // a crash may have come between the row and the event
				err = s.tellPaused(ctx, p)
			}
			if err == nil && !time.Now().Before(p.Until) {
				_, err = s.resume(ctx, p, "")
			}
		}
		told = told || err == nil
		if err != nil && ctx.Err() == nil {
			s.log.Warn("following the pauses of connectors", "error", err)
		}
	}
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
