package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dime-bus/dime/pipeline/run"
)

func newRuns() *cobra.Command {
	var a admin
	cmd := &cobra.Command{
		Use:   "runs",
		Short: "List, show and mend runs of a live server",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	adminFlag(&a, cmd)
	cmd.AddCommand(newRunsLs(&a), newRunsShow(&a), newRunsReplay(&a), newRunsResolve(&a), newRunsMigrate(&a),
		newRunsAct(&a, "skip", "Give up a parked run that blocks its order key: undo it, end it as failed, let the key move on"),
		newRunsAct(&a, "settle", "State that nothing is left to do about a failed run: it leaves the dead letters and is kept no longer than others"),
		newRunsAct(&a, "cancel", "Stop a live run between two steps and undo what it did"))
	return cmd
}

func newRunsLs(a *admin) *cobra.Command {
	var o output
	var route, before string
	var states []string
	var limit int
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List runs, newest first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{"limit": {strconv.Itoa(limit)}}
			if route != "" {
				q.Set("route", route)
			}
			if before != "" {
				q.Set("before", before)
			}
			if len(states) > 0 {
				q["state"] = states
			}
			var list struct {
				Runs []run.Summary `json:"runs"`
			}
			if err := a.do(cmd.Context(), http.MethodGet, "/runs?"+q.Encode(), nil, &list); err != nil {
				return err
			}
			runs := list.Runs
			if runs == nil {
				runs = []run.Summary{} // a listing is an array, be it empty
			}
			return o.print(cmd.OutOrStdout(), runs, func(w io.Writer) error {
				rows := make([][]string, len(runs))
				for i, r := range runs {
					rows[i] = []string{r.Run, r.Route, stateColour(w, r.State), r.Started.Local().Format(time.DateTime), r.Reason}
				}
				return columns(w, []string{"RUN", "ROUTE", "STATE", "STARTED", "REASON"}, rows)
			})
		},
	}
	o.flag(cmd)
	f := cmd.Flags()
	f.StringVar(&route, "route", "", "only runs of this route")
	f.StringSliceVar(&states, "state", nil, "only runs in these states: queued running waiting undoing parked done cancelled failed settled")
	f.StringVar(&before, "before", "", "only runs older than this one, for paging")
	f.IntVar(&limit, "limit", 100, "at most so many")
	return cmd
}

func stateColour(w io.Writer, s string) string {
	switch s {
	case "done":
		return paint(w, green, s)
	case "failed", "parked":
		return paint(w, red, s)
	case "cancelled", "undoing":
		return paint(w, yellow, s)
	}
	return s
}

func newRunsShow(a *admin) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use:   "show RUN",
		Short: "Print a run's timeline: step, attempt, duration, input -> outcome, personal fields masked",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var d run.Detail
			if err := a.do(cmd.Context(), http.MethodGet, "/runs/"+url.PathEscape(args[0]), nil, &d); err != nil {
				return err
			}
			return o.print(cmd.OutOrStdout(), d, func(w io.Writer) error { return printTimeline(w, d) })
		},
	}
	o.flag(cmd)
	return cmd
}

func printTimeline(w io.Writer, d run.Detail) error {
	fmt.Fprintf(w, "run %s  route %s version %d  %s", d.Run, d.Route, d.Version, stateColour(w, d.State))
	if d.Reason != "" {
		fmt.Fprintf(w, "  (%s)", d.Reason)
	}
	fmt.Fprintf(w, "\nstarted %s", d.Started.Local().Format(time.DateTime))
	if d.Ended != nil {
		fmt.Fprintf(w, "  ended %s", d.Ended.Local().Format(time.DateTime))
	}
	if d.Due != nil {
		fmt.Fprintf(w, "  due %s", d.Due.Local().Format(time.DateTime))
	}
	fmt.Fprintln(w)
	if d.Volatile {
		fmt.Fprintln(w, "this run changed nothing outside: its timeline is kept in memory and a restart loses it")
	}
	rows := make([][]string, len(d.Lines))
	for i, l := range d.Lines {
		attempt := ""
		if l.Attempt > 0 {
			attempt = strconv.Itoa(l.Attempt)
		}
		took := ""
		if l.Duration > 0 {
			took = l.Duration.Round(10 * time.Microsecond).String()
		}
		step := l.Step
		if l.Round > 1 {
			step += fmt.Sprintf(" (round %d)", l.Round)
		}
		rows[i] = []string{l.At.Local().Format("15:04:05.000"), step, l.Kind, attempt, took, inOut(w, l)}
	}
	return columns(w, []string{"AT", "STEP", "KIND", "ATTEMPT", "TOOK", "INPUT -> OUTCOME"}, rows)
}

// inOut renders "input -> outcome" on one line.
func inOut(w io.Writer, l run.Line) string {
	var parts []string
	if l.In != nil {
		parts = append(parts, oneLine(l.In))
	}
	switch {
	case l.Fault != "":
		parts = append(parts, "-> "+paint(w, red, l.Fault))
	case l.Out != nil:
		parts = append(parts, "-> "+oneLine(l.Out))
	}
	if l.Note != "" {
		parts = append(parts, l.Note)
	}
	return strings.Join(parts, " ")
}

func oneLine(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	const most = 160
	if r := []rune(string(b)); len(r) > most {
		return string(r[:most]) + "…"
	}
	return string(b)
}

// act is the body of every POST that mends a run.
type act struct {
	As       string `json:"as"`
	Reason   string `json:"reason"`
	DryRun   bool   `json:"dry_run,omitempty"`
	From     string `json:"from,omitempty"`
	Path     string `json:"path,omitempty"`
	Happened *bool  `json:"happened,omitempty"`
	Result   any    `json:"result,omitempty"`
}

func (x *act) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&x.As, "as", "", "who acts: your name or user, for the run's journal (required)")
	f.StringVar(&x.Reason, "reason", "", "why, for the run's journal (required)")
	f.BoolVar(&x.DryRun, "dry-run", false, "say what would happen and change nothing")
}

func (x *act) check() error {
	if x.As == "" || x.Reason == "" {
		return usageError{fmt.Errorf("this changes a run: say who you are with --as and why with --reason")}
	}
	return nil
}

// send posts the act and prints what the server did.
func (x *act) send(cmd *cobra.Command, a *admin, o *output, id, verb string) error {
	if err := x.check(); err != nil {
		return err
	}
	var report any
	if err := a.do(cmd.Context(), http.MethodPost, "/runs/"+url.PathEscape(id)+"/"+verb, x, &report); err != nil {
		return err
	}
	return o.print(cmd.OutOrStdout(), report, func(w io.Writer) error { return printYAML(w, report) })
}

func newRunsAct(a *admin, verb, short string) *cobra.Command {
	var o output
	var x act
	cmd := &cobra.Command{
		Use:   verb + " RUN",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE:  func(cmd *cobra.Command, args []string) error { return x.send(cmd, a, &o, args[0], verb) },
	}
	o.flag(cmd)
	x.flags(cmd)
	return cmd
}

func newRunsReplay(a *admin) *cobra.Command {
	var o output
	var x act
	cmd := &cobra.Command{
		Use:   "replay RUN",
		Short: "Let a parked run go on where it rests, or start a failed run again",
		Long: `Let a parked run go on where it rests, or start a failed run again.

With --from PATH what is before that step is kept; effects from it on that
happened are undone first: --dry-run lists them. Effects that stand keep their
recorded outcome and are not done twice.

A run parked by "contract" did its effect, but the answer broke its schema: no
replay can read the result out of it, and --from would undo the effect without
knowing it. First look it up at the far side and state it:
dime runs resolve RUN --path PATH --happened yes --result JSON
The run then goes on; after that --from works as for any effect.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return x.send(cmd, a, &o, args[0], "replay") },
	}
	o.flag(cmd)
	x.flags(cmd)
	cmd.Flags().StringVar(&x.From, "from", "", "path of the step to start again from")
	return cmd
}

func newRunsResolve(a *admin) *cobra.Command {
	var o output
	var x act
	var happened, result string
	cmd := &cobra.Command{
		Use:   "resolve RUN",
		Short: "State whether an effect in doubt happened, or settle a stuck undo",
		Long: `State whether an effect in doubt happened, or settle a stuck undo.

An effect parked by "unknown" happened (--happened yes, with its --result) or did
not (--happened no: it is done at once). One parked by "contract" happened, and
its --result must fit the operation's schema. Of an undo that is stuck it says
that a person has seen to it: the undos before it go on.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch happened {
			case "yes", "no":
				yes := happened == "yes"
				x.Happened = &yes
			case "":
			default:
				return usageError{fmt.Errorf("--happened takes yes or no, not %q", happened)}
			}
			if result != "" {
				if err := json.Unmarshal([]byte(result), &x.Result); err != nil {
					return usageError{fmt.Errorf("--result is not JSON: %w", err)}
				}
			}
			return x.send(cmd, a, &o, args[0], "resolve")
		},
	}
	o.flag(cmd)
	x.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&x.Path, "path", "", "path of the step in doubt (needed only if there are several)")
	f.StringVar(&happened, "happened", "", "yes: the effect happened (give its --result); no: it surely did not")
	f.StringVar(&result, "result", "", "the effect's result as JSON, with --happened yes")
	return cmd
}
