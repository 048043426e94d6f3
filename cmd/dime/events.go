package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/dime-bus/dime/pipeline/run/unmatched"
)

func newEvents() *cobra.Command {
	var a admin
	cmd := &cobra.Command{
		Use:   "events",
		Short: "List and settle events about money that no run of a live server took",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	adminFlag(&a, cmd)
	cmd.AddCommand(newEventsLs(&a), newEventsSettle(&a))
	return cmd
}

func newEventsLs(a *admin) *cobra.Command {
	var o output
	var after int64
	var settled bool
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the events that no run took, oldest first, or with --settled who settled which",
		Long: `List the events that no run took, oldest first. With --settled, those that a
person settled, with who, when and why.

An event of a connector that moves money, such as a payment that arrives after
its run was cancelled, is kept until a run takes it or a person settles it. One
that has just come may still be taken.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if settled {
				events, err := eventsOf[unmatched.Settled](cmd.Context(), a, "settled", after)
				if err != nil {
					return err
				}
				return o.print(cmd.OutOrStdout(), events, func(w io.Writer) error {
					rows := make([][]string, len(events))
					for i, e := range events {
						rows[i] = []string{strconv.FormatInt(e.Event.Event, 10), e.Type, e.At.Local().Format(time.DateTime), e.ID,
							e.Settled.Local().Format(time.DateTime), e.As, e.Reason}
					}
					return columns(w, []string{"EVENT", "TYPE", "CAME", "ID", "SETTLED", "BY", "REASON"}, rows)
				})
			}
			events, err := eventsOf[unmatched.Event](cmd.Context(), a, "unmatched", after)
			if err != nil {
				return err
			}
			return o.print(cmd.OutOrStdout(), events, func(w io.Writer) error {
				rows := make([][]string, len(events))
				for i, e := range events {
					rows[i] = []string{strconv.FormatInt(e.Event, 10), e.Type, e.At.Local().Format(time.DateTime), e.ID}
				}
				return columns(w, []string{"EVENT", "TYPE", "CAME", "ID"}, rows)
			})
		},
	}
	o.flag(cmd)
	cmd.Flags().Int64Var(&after, "after", 0, "only events behind this one, for paging; 100 come at once")
	cmd.Flags().BoolVar(&settled, "settled", false, "those that a person settled, with who, when and why")
	return cmd
}

// eventsOf asks a live server for a listing; it is never nil.
func eventsOf[T any](ctx context.Context, a *admin, which string, after int64) ([]T, error) {
	list := struct {
		Events []T `json:"events"`
	}{[]T{}}
	if err := a.do(ctx, http.MethodGet, "/events/"+which+"?after="+strconv.FormatInt(after, 10), nil, &list); err != nil {
		return nil, err
	}
	return list.Events, nil
}

func newEventsSettle(a *admin) *cobra.Command {
	var o output
	var as, reason string
	cmd := &cobra.Command{
		Use:   "settle EVENT",
		Short: "State that nothing is left to do about an event that no run took",
		Long: `State that nothing is left to do about an event that no run took: the money
was given back, or booked by hand. EVENT is its number in dime events ls. Who and
why is kept.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if as == "" || reason == "" {
				return usageError{fmt.Errorf("this settles an event: say who you are with --as and why with --reason")}
			}
			var e unmatched.Event
			body := map[string]string{"as": as, "reason": reason}
			if err := a.do(cmd.Context(), http.MethodPost, "/events/"+url.PathEscape(args[0])+"/settle", body, &e); err != nil {
				return err
			}
			return o.print(cmd.OutOrStdout(), e, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "event %d (%s, %s) is settled\n", e.Event, e.Type, e.ID)
				return err
			})
		},
	}
	o.flag(cmd)
	f := cmd.Flags()
	f.StringVar(&as, "as", "", "who settles: your name or user, kept with the event (required)")
	f.StringVar(&reason, "reason", "", "why, kept with the event (required)")
	return cmd
}

func (s *server) unmatched(ctx context.Context, after int64) (any, error) {
	return unmatched.List(ctx, s.store, after, 0)
}

func (s *server) settled(ctx context.Context, after int64) (any, error) {
	return unmatched.ListSettled(ctx, s.store, after, 0)
}

func (s *server) settleEvent(ctx context.Context, event int64, reason, by string) (any, error) {
	return unmatched.Settle(ctx, s.store, time.Now(), event, by, reason)
}
