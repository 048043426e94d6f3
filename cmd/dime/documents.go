package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/dime-bus/dime/internal/document/archive"
	"github.com/dime-bus/dime/internal/fault"
)

func newDocuments() *cobra.Command {
	var a admin
	cmd := &cobra.Command{
		Use:   "documents",
		Short: "Withdraw documents that a live server issued",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	adminFlag(&a, cmd)
	cmd.AddCommand(newDocumentsWithdraw(&a))
	return cmd
}

func newDocumentsWithdraw(a *admin) *cobra.Command {
	var o output
	var as, reason string
	cmd := &cobra.Command{
		Use:   "withdraw CODE",
		Short: "Mark an issued document as withdrawn in the public register",
		Long: `Mark an issued document as withdrawn in the public register.

CODE is the one on the document, in the address /verifica/CODE. The event
certificate.withdrawn is published. There is no way back: a document that was
withdrawn by mistake is issued anew. To withdraw it again changes nothing.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if as == "" || reason == "" {
				return usageError{fmt.Errorf("this withdraws a document: say who you are with --as and why with --reason")}
			}
			var kept archive.Withdrawn
			body := map[string]string{"as": as, "reason": reason}
			if err := a.do(cmd.Context(), http.MethodPost, "/documents/"+url.PathEscape(args[0])+"/withdraw", body, &kept); err != nil {
				return err
			}
			return o.print(cmd.OutOrStdout(), kept, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "document %s (%s) is withdrawn since %s: %s\n", kept.Protocol, kept.Kind, kept.At.Format("2006-01-02 15:04:05 MST"), kept.Reason)
				return err
			})
		},
	}
	o.flag(cmd)
	f := cmd.Flags()
	f.StringVar(&as, "as", "", "who withdraws: your name or user, kept with the document (required)")
	f.StringVar(&reason, "reason", "", "why, kept with the document and published (required)")
	return cmd
}

func (s *server) withdraw(ctx context.Context, code, reason, by string) (any, error) {
	if s.documents == nil {
		return nil, fault.New(fault.NotFound, "this server issues no documents")
	}
	kept, err := s.documents.Withdraw(ctx, code, reason, by)
	kept.TaxCode = "" // the event has it; whose document it is, is not shown on a console
	return kept, err
}
