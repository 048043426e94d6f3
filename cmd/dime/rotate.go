package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dime-bus/dime/config"
	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/gateway"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/rekey"
)

func newKeys() *cobra.Command {
	var a admin
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Show and change the master key of a live server's store",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	adminFlag(&a, cmd)
	cmd.AddCommand(newKeysShow(&a), newKeysRotate(&a))
	return cmd
}

func newKeysShow(a *admin) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Say which master keys open the store, and how far a change of them is",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var r rekey.Report
			if err := a.do(cmd.Context(), http.MethodGet, "/keys", nil, &r); err != nil {
				return err
			}
			return o.print(cmd.OutOrStdout(), r, func(w io.Writer) error { return printKeys(w, r) })
		},
	}
	o.flag(cmd)
	return cmd
}

// rotateAct is the body of POST /keys/rotate and /keys/finish.
type rotateAct struct {
	To     string `json:"to,omitempty"`
	As     string `json:"as"`
	Reason string `json:"reason"`
	DryRun bool   `json:"dry_run,omitempty"`
}

func newKeysRotate(a *admin) *cobra.Command {
	var o output
	var x rotateAct
	var finish bool
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Change the master key while the city works on",
		Long: `Change the master key while the city works on.

The server makes new keys, which wrap and seal from that instant on, and seals anew
what the old ones sealed: persons' keys, runs, events, messages, versions and blobs.
Until that is done both master keys open the store; a killed server goes on where it
stood. Numbers of runs, effects' keys and look-up tokens stay as they are: they hang
on a key of their own, which the new master key seals.

Where the server keeps its key beside the data folder, it makes the new one, puts it
in the old one's place and is done. Else:

  1. make a key (head -c 32 /dev/urandom | base64) where the servers can read it
  2. dime keys rotate --to file:/etc/dime/master.new
  3. let master_key name the new one, everywhere, and restart process by process
  4. dime keys rotate --finish: from here on the old key opens nothing

Backups made before that are opened by the old key: keep it as long as them, apart.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if x.As == "" || x.Reason == "" {
				return usageError{errors.New("this changes the master key: say who you are with --as and why with --reason")}
			}
			path := "/keys/rotate"
			if finish {
				if path = "/keys/finish"; x.To != "" {
					return usageError{errors.New("--finish ends a change that was begun: it takes no --to")}
				}
			}
			var r rekey.Report
			if err := a.do(cmd.Context(), http.MethodPost, path, x, &r); err != nil {
				return err
			}
			for !x.DryRun && r.State == "resealing" {
				fmt.Fprintf(cmd.ErrOrStderr(), "%d of about %d rows are sealed anew\n", r.Resealed, r.Rows)
				if err := clock.Sleep(cmd.Context(), clock.Real{}, 2*time.Second); err != nil {
					return err
				}
				if err := a.do(cmd.Context(), http.MethodGet, "/keys", nil, &r); err != nil {
					return err
				}
			}
			return o.print(cmd.OutOrStdout(), r, func(w io.Writer) error { return printKeys(w, r) })
		},
	}
	o.flag(cmd)
	f := cmd.Flags()
	f.StringVar(&x.To, "to", "", "where the new key is, as the servers see it: file:PATH or env:NAME")
	f.BoolVar(&finish, "finish", false, "let the old key open nothing any more")
	f.StringVar(&x.As, "as", "", "who acts: your name or user, kept with the keys (required)")
	f.StringVar(&x.Reason, "reason", "", "why, kept with the keys (required)")
	f.BoolVar(&x.DryRun, "dry-run", false, "say what would happen and change nothing")
	return cmd
}

func printKeys(w io.Writer, r rekey.Report) error {
	fmt.Fprintf(w, "generation %d; opened by the master keys %s\n", r.Generation, strings.Join(r.Masters, ", "))
	for _, name := range r.Behind {
		fmt.Fprintf(w, "  started with the old key: %s\n", name)
	}
	var err error
	switch {
	case r.DryRun:
		_, err = fmt.Fprintf(w, "about %d rows are looked at; nothing was changed\n", r.Rows)
	case r.State == "resealing":
		_, err = fmt.Fprintf(w, "%d of about %d rows are sealed anew\n", r.Resealed, r.Rows)
	case r.State == "switching":
		_, err = fmt.Fprintf(w, "%d rows were sealed anew; next: let master_key name the new key, restart, then dime keys rotate --finish\n", r.Resealed)
	}
	return err
}

// ownKey says that this server keeps its key by itself, beside its data.
func (s *server) ownKey() bool { return !s.cfg.MasterKey.Set() && !s.shared() }

// rotation is this process's part in a change of the master key.
func (s *server) rotation() (*rekey.Desk, error) {
	ring, ok := s.store.(store.Keyring)
	if !ok {
		return nil, errors.New("the store's master key can't be changed")
	}
	d := &rekey.Desk{Ring: ring, Table: s.store.Table(rekey.Owner), Log: s.log, Worker: s.worker, Opened: s.opened, Members: s.members,
		Kept: func() ([]byte, error) { return keptMasterKey(s.cfg) }}
	if !s.ownKey() {
		return d, nil
	}
	var err error
	d.File, err = masterKeyFile(s.cfg)
	return d, err
}

func (s *server) keysTask(ctx context.Context, _ func(string) string, _ []byte) (any, error) {
	d, err := s.rotation()
	if err != nil {
		return nil, err
	}
	return d.Report(ctx)
}

func (s *server) rotateTask(ctx context.Context, _ func(string) string, body []byte) (any, error) {
	var x rotateAct
	if err := gateway.Decode(body, &x); err != nil {
		return nil, err
	}
	if err := gateway.Who(x.As, x.Reason); err != nil {
		return nil, err
	}
	d, err := s.rotation()
	if err != nil {
		return nil, err
	}
	key, err := s.newKey(x)
	if err != nil {
		return nil, err
	}
	if !x.DryRun {
		if err := d.Begin(ctx, key, x.As, x.Reason); err != nil {
			return nil, err
		}
		s.log.Warn("a person changes the master key; from now on new keys wrap and seal", "as", x.As)
	}
	r, err := d.Report(ctx)
	r.DryRun = x.DryRun
	return r, err
}

// newKey is the new master key: what the reference names, or one that this server
// makes and keeps.
func (s *server) newKey(x rotateAct) ([]byte, error) {
	invalid := func(format string, args ...any) error {
		return &fault.Error{Kind: fault.Invalid, Pointer: "/to", Detail: fmt.Sprintf(format, args...)}
	}
	if s.ownKey() {
		if x.To != "" {
			return nil, invalid("this server keeps its key by itself, beside %s: leave --to out, or start it with master_key first", s.cfg.Data)
		}
		if x.DryRun {
			return nil, nil
		}
		file, err := masterKeyFile(s.cfg)
		if err != nil {
			return nil, err
		}
		file += rekey.NextKey
		b, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) { // else it was begun before
			return newMasterKey(file)
		}
		if err != nil {
			return nil, fmt.Errorf("reading the new master key: %w", err)
		}
		return decodeKey(string(b))
	}
	if x.To == "" {
		return nil, invalid("say where the servers find the new key: --to file:PATH or env:NAME")
	}
	ref, err := config.ParseSecret(x.To)
	if err != nil {
		return nil, invalid("%v", err)
	}
	text, err := ref.Resolve()
	if err != nil {
		return nil, invalid("%v", err)
	}
	key, err := decodeKey(text)
	if err != nil {
		return nil, invalid("%v", err)
	}
	return key, nil
}

func (s *server) finishTask(ctx context.Context, _ func(string) string, body []byte) (any, error) {
	var x rotateAct
	if err := gateway.Decode(body, &x); err != nil {
		return nil, err
	}
	if err := gateway.Who(x.As, x.Reason); err != nil {
		return nil, err
	}
	d, err := s.rotation()
	if err != nil {
		return nil, err
	}
	r, err := d.Finish(ctx, x.DryRun)
	if err != nil || x.DryRun {
		return r, err
	}
	s.log.Warn("a person let the old master key open nothing any more", "as", x.As)
	return r, nil
}
