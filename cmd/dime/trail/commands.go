package trail

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/dime-bus/dime/config"
	"github.com/dime-bus/dime/internal/audit"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/backup"
	"github.com/dime-bus/dime/internal/store/postgres"
	"github.com/dime-bus/dime/internal/store/sqlite"
)

// Host is what the commands need of the program that they are part of.
type Host struct {
	Flags func(cmd *cobra.Command, names ...string)       // the flags of the configuration
	Load  func(cmd *cobra.Command) (config.Config, error) // and what they and the files say
	Usage func(err error) error                           // exit code 2
	Quiet error                                           // exit code 1 when all is said
}

// Command is `dime audit`.
func Command(host func() Host) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Verify and export the list of what people and releases did",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newVerify(host()), newExport(host()))
	return cmd
}

// rowsOf hands on the audit of a data folder or database.
func rowsOf(ctx context.Context, cfg config.Config, row func(store.AuditRow) error) error {
	if cfg.Store.Set() {
		return postgres.AuditOf(ctx, cfg.Store.URLs[0], passwordOf(cfg.Store), row)
	}
	return sqlite.AuditOf(ctx, filepath.Join(cfg.Data, backup.Database), row)
}

// progress says how far a long reading is, on a stream of its own.
type progress struct {
	out  io.Writer
	next time.Time
	rows int64
}

const sayEvery = 2 * time.Second

func (p *progress) row() {
	p.rows++
	if p.rows%1000 != 0 {
		return
	}
	if now := time.Now(); now.After(p.next) {
		if !p.next.IsZero() {
			fmt.Fprintf(p.out, "%d rows\n", p.rows)
		}
		p.next = now.Add(sayEvery)
	}
}

func newVerify(host Host) *cobra.Command {
	var file, witness, format string
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Say whether the audit is as it was written, and which rows are not",
		Long: `Say whether the audit is as it was written: each row carries a hash over itself and
the row before. Found is every row that was changed, removed, put in or moved, with
its number; and with --witness also rows that were cut off at the end, or a list that
was written anew from some row on.

It reads the data folder, the PostgreSQL store or an export, changes nothing, needs
no key and no server, and may run beside one. Exit code 0: whole; 1: it is not, or
can't be read; 2: the command line is wrong.`,
		Example: "  dime audit verify --data data --witness /mnt/other/dime-audit.witness",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if format != "table" && format != "json" {
				return host.Usage(fmt.Errorf("-o takes table or json, not %q", format))
			}
			var marks []audit.Mark
			if witness != "" {
				var err error
				if marks, err = audit.MarksOf(witness); err != nil {
					return err
				}
			}
			v := audit.NewVerifier(marks)
			said := progress{out: cmd.ErrOrStderr()}
			row := func(r store.AuditRow) error { said.row(); return v.Row(r) }
			if err := verified(cmd, host, file, v, row); err != nil {
				return fmt.Errorf("verifying the audit: %w", err)
			}
			r := v.Result()
			if err := printResult(cmd.OutOrStdout(), r, format, witness != ""); err != nil {
				return err
			}
			if !r.Whole() {
				return host.Quiet
			}
			return nil
		},
	}
	host.Flags(cmd, "data", "store", "store-password")
	f := cmd.Flags()
	f.StringVar(&file, "file", "", "an export to verify in the place of a store")
	f.StringVar(&witness, "witness", "", "the witness's file: what it saw must still be there")
	f.StringVarP(&format, "output", "o", "table", "output format: table or json")
	return cmd
}

func verified(cmd *cobra.Command, host Host, file string, v *audit.Verifier, row func(store.AuditRow) error) error {
	if file == "" {
		cfg, err := host.Load(cmd)
		if err != nil {
			return err
		}
		return rowsOf(cmd.Context(), cfg, row)
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	return audit.Read(f, v.Part, row)
}

func printResult(w io.Writer, r audit.Result, format string, witnessed bool) error {
	if format == "json" {
		return audit.Write(w, r)
	}
	for _, f := range r.Findings {
		fmt.Fprintln(w, f.What)
	}
	if r.More > 0 {
		fmt.Fprintf(w, "and %d more\n", r.More)
	}
	if !r.Whole() {
		_, err := fmt.Fprintf(w, "the audit is not as it was written: %d findings in %d rows\n", len(r.Findings)+r.More, r.Rows)
		return err
	}
	if r.Rows == 0 {
		_, err := fmt.Fprintln(w, "the audit is empty")
		return err
	}
	_, err := fmt.Fprintf(w, "whole: rows %d to %d, the last with the hash %s\n", r.First, r.Last, r.Hash)
	if err == nil && witnessed {
		_, err = fmt.Fprintf(w, "as the witness saw it %d times\n", r.Marks)
	} else if err == nil {
		_, err = fmt.Fprintln(w, "rows that were cut off at the end are only found with --witness")
	}
	return err
}

func newExport(host Host) *cobra.Command {
	var since, until, format string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write the audit, or a part of it, as lines of JSON that verify accepts",
		Long: `Write the audit, or a part of it, to the standard output: with -o json a first line
that says which part of which list follows, then one line a row (docs/audit.md);
with -o table what people read. A person stands there as the token by which the
store knows him, never by name.`,
		Example: "  dime audit export --since 2026-11-01 --until 2026-12-01 > november.jsonl\n  dime audit verify --file november.jsonl",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			from, err := instant(since)
			if err != nil {
				return host.Usage(fmt.Errorf("--since: %w", err))
			}
			to, err := instant(until)
			if err != nil {
				return host.Usage(fmt.Errorf("--until: %w", err))
			}
			if format != "table" && format != "json" {
				return host.Usage(fmt.Errorf("-o takes json or table, not %q", format))
			}
			cfg, err := host.Load(cmd)
			if err != nil {
				return err
			}
			if err := export(cmd, cfg, from, to, format); err != nil {
				return fmt.Errorf("exporting the audit: %w", err)
			}
			return nil
		},
	}
	host.Flags(cmd, "data", "store", "store-password")
	f := cmd.Flags()
	f.StringVar(&since, "since", "", "only rows from this instant on: 2026-11-01, or RFC 3339")
	f.StringVar(&until, "until", "", "only rows before this instant")
	f.StringVarP(&format, "output", "o", "json", "output format: json (lines) or table")
	return cmd
}

func instant(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	for _, form := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.ParseInLocation(form, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no instant; write 2026-11-01 or 2026-11-01T08:00:00+01:00", s)
}

// export reads twice: first which rows it will be, for the first line says so.
// What is added meanwhile is left for the next export.
func export(cmd *cobra.Command, cfg config.Config, from, to time.Time, format string) error {
	h := audit.Head{Format: audit.Format, City: cfg.Name, At: time.Now().UTC().Truncate(time.Millisecond)}
	begun := false
	takes := func(r store.AuditRow) bool {
		return (from.IsZero() || !r.At.Before(from)) && (to.IsZero() || r.At.Before(to))
	}
	err := rowsOf(cmd.Context(), cfg, func(r store.AuditRow) error {
		hash := hex.EncodeToString(r.Hash)
		// Instants may step back where a clock was set: what is exported is one piece.
		if takes(r) {
			begun, h.Last = true, r.Seq
		}
		if !begun {
			h.After, h.Before = r.Seq, hash
		}
		h.Head, h.HeadHash = r.Seq, hash
		return nil
	})
	if err != nil {
		return err
	}
	w, said := cmd.OutOrStdout(), progress{out: cmd.ErrOrStderr()}
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	if format == "json" {
		err = audit.Write(w, h)
	} else {
		_, err = fmt.Fprintln(tw, "ROW\tAT\tWHO\tBY\tACTION\tTARGET\tREASON\tDETAIL")
	}
	if err != nil {
		return err
	}
	errEnd := errors.New("enough")
	err = rowsOf(cmd.Context(), cfg, func(r store.AuditRow) error {
		if r.Seq > h.Last {
			return errEnd
		}
		if r.Seq <= h.After {
			return nil
		}
		said.row()
		if format == "json" {
			return audit.Write(w, audit.LineOf(r))
		}
		_, err := fmt.Fprintln(tw, strings.Join([]string{fmt.Sprint(r.Seq), r.At.Local().Format(time.DateTime), oneLine(r.Who), r.Channel, r.Action, oneLine(r.Target), oneLine(r.Reason), oneLine(r.Detail)}, "\t"))
		return err
	})
	if err != nil && !errors.Is(err, errEnd) {
		return err
	}
	return tw.Flush()
}

// oneLine is free text that can't leave its cell, nor steer the terminal.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}
