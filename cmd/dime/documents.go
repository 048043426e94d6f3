package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/dime-bus/dime/cmd/dime/inquire"
	"github.com/dime-bus/dime/config"
	"github.com/dime-bus/dime/internal/document/archive"
	"github.com/dime-bus/dime/internal/document/certificate"
	"github.com/dime-bus/dime/internal/document/seal"
	"github.com/dime-bus/dime/internal/document/verify"
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

// The protocollo is the connector of this name: its operation is keyed and
// answers {protocol}.
const (
	protocolRegister  = "protocollo"
	protocolOperation = "register"
)

// archive makes the archive of issued documents; nil where there is no seal.
func (s *server) archive() (*archive.Archive, error) {
	var seals []seal.Credential
	for _, c := range s.cfg.Documents.Seals {
		seals = append(seals, seal.Credential{Key: pemOf(c.Key), Certificate: pemOf(c.Certificate)})
	}
	switch {
	case len(seals) > 0:
		if _, err := seal.NewSoftware(time.Now, seals...).Ready(context.Background()); err != nil {
			return nil, err
		}
	case s.cfg.City.Mode == "off":
		return nil, nil
	default:
		c, err := seal.Virtual(filepath.Join(s.cfg.Data, "seal"), s.cfg.Name, time.Now())
		if err != nil {
			return nil, err
		}
		seals = append(seals, c)
	}
	return archive.New(archive.Config{
		Table: s.store.Table("documents"), Now: time.Now,
		City:   certificate.City{Name: s.cfg.Name, Office: s.cfg.Documents.Office, Zone: s.zone},
		URL:    func() string { return s.urls().Public },
		Sealer: seal.NewSoftware(time.Now, seals...),
		Protocol: func(ctx context.Context, r archive.Registration) (string, error) {
			op := s.operation(protocolRegister, protocolOperation)
			if op == nil || !op.Keyed {
				return "", fault.New(fault.Contract, "there is no keyed operation %s.%s; documents need it for their numbers", protocolRegister, protocolOperation)
			}
			return inquire.Field[string](ctx, s.guards.of(protocolRegister), op, r.Key, "protocol", map[string]any{
				"direction": "outgoing", "subject": r.Subject, "office": r.Office, "correspondent": r.Holder,
				"sha256": hex.EncodeToString(r.SHA256[:]),
			})
		},
		Withdrawn: func(ctx context.Context, id string, w archive.Withdrawn) error {
			return s.publishEvent(ctx, "certificate.withdrawn", id, map[string]any{
				"kind": w.Kind, "protocol": w.Protocol, "tax_code": w.TaxCode, "reason": w.Reason, "by": w.By, "at": w.At.Format(time.RFC3339),
			})
		},
	}), nil
}

func pemOf(ref config.Secret) func() ([]byte, error) {
	return func() ([]byte, error) {
		text, err := ref.Resolve()
		return []byte(text), err
	}
}

// documentPages are the public handlers of the register.
func (s *server) documentPages() (map[string]http.Handler, error) {
	if s.documents == nil {
		return nil, nil
	}
	return verify.Handlers(verify.Config{Register: s.documents, City: s.cfg.Name, Zone: s.zone, Log: s.log, May: s.mayHave})
}

// mayHave says whether the caller may have a document of this holder: it is his
// own, or the register of mandates says so.
func (s *server) mayHave(r *http.Request, holder string) bool {
	c := s.gateway.Caller(r)
	if c == nil || c.Kind != "citizen" || c.Assurance < 2 {
		return false
	}
	if c.TaxCode == holder {
		return true
	}
	may, err := s.mandates(r.Context(), c.TaxCode, holder, "certificate-issue")
	if err != nil {
		s.log.WarnContext(r.Context(), "asking whether a deputy may have a document", "error", err)
	}
	return may && err == nil
}

func (s *server) withdraw(ctx context.Context, code, reason, by string) (any, error) {
	if s.documents == nil {
		return nil, fault.New(fault.NotFound, "this server issues no documents")
	}
	kept, err := s.documents.Withdraw(ctx, code, reason, by)
	kept.TaxCode = "" // the event has it; whose document it is, is not shown on a console
	return kept, err
}
