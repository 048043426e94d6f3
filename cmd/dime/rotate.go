package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dime-bus/dime/config"
	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/gateway"
	"github.com/dime-bus/dime/internal/members"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/seal"
)

// keysOwner is the table's in which processes say by which master key they were
// opened, and people why they changed it.
const keysOwner = "keys"

// nextKey is behind the name of a server's own key what holds its next one, until
// that is in force.
const nextKey = ".next"

// Rows are sealed anew in bites, with a breath between them, so that those who wait
// for a commit do not wait for all.
const (
	resealRows   = 200
	resealBreath = 5 * time.Millisecond
	resealLook   = 5 * time.Second
)

// keyReport is how the keys stand, as people see it.
type keyReport struct {
	State      string   `json:"state"` // steady, resealing, switching, dry
	Generation int      `json:"generation"`
	Masters    []string `json:"master_keys"` // ids of those that open the store, newest last
	Rows       int64    `json:"rows"`
	Resealed   int64    `json:"resealed"`
	Behind     []string `json:"behind"` // processes that were started with the old key
	DryRun     bool     `json:"dry_run"`
}

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
			var r keyReport
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
			var r keyReport
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

func printKeys(w io.Writer, r keyReport) error {
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

// keyring is what of the store changes its keys.
func (s *server) keyring() (store.Keyring, error) {
	k, ok := s.store.(store.Keyring)
	if !ok {
		return nil, errors.New("the store's master key can't be changed")
	}
	return k, nil
}

func (s *server) keysTask(ctx context.Context, _ func(string) string, _ []byte) (any, error) {
	return s.keyReport(ctx)
}

func (s *server) keyReport(ctx context.Context) (r keyReport, err error) {
	ring, err := s.keyring()
	if err != nil {
		return r, err
	}
	k, err := ring.Keys(ctx)
	if err != nil {
		return r, err
	}
	r = keyReport{State: "steady", Generation: k.Generation, Masters: k.Masters, Rows: k.Rows, Resealed: k.Done, Behind: []string{}}
	switch {
	case k.Walk != "":
		r.State = "resealing"
	case len(k.Masters) > 1 && s.ownKey():
		r.State = "resealing" // the server has still to put the new key in its place
	case len(k.Masters) > 1:
		r.State = "switching"
	}
	if len(k.Masters) > 1 && !s.ownKey() {
		r.Behind, err = s.behind(ctx, k.Masters[len(k.Masters)-1], k.Opened)
	}
	return r, err
}

// ownKey says that this server keeps its key by itself, beside its data.
func (s *server) ownKey() bool { return !s.cfg.MasterKey.Set() && !s.shared() }

// sayOpened keeps by which key this process was opened, for who wants to know
// whether the old one is still needed.
func (s *server) sayOpened(ctx context.Context) error {
	if !s.shared() {
		return nil
	}
	return s.store.Table(keysOwner).Update(ctx, "opened."+s.worker, func([]byte) ([]byte, error) { return json.Marshal(s.opened) })
}

// behind lists the living processes that another key than the newest opened.
func (s *server) behind(ctx context.Context, newest, mine string) ([]string, error) {
	out := []string{}
	if s.members == nil {
		if mine != newest {
			out = append(out, s.worker)
		}
		return out, nil
	}
	t := s.store.Table(keysOwner)
	opened, err := t.List(ctx, "opened.", "", 10_000)
	if err != nil {
		return nil, err
	}
	by := map[string]string{}
	for _, r := range opened {
		var id string
		if err := json.Unmarshal(r.Value, &id); err != nil {
			return nil, fmt.Errorf("reading which key opened %s: %w", r.Key, err)
		}
		by[strings.TrimPrefix(r.Key, "opened.")] = id
	}
	for _, m := range s.members.Alive() {
		if by[m.Name] != newest {
			out = append(out, m.Name)
		}
		delete(by, m.Name)
	}
	for name := range by { // the dead; one that is but slow says so again when it starts
		if slices.ContainsFunc(s.members.Alive(), func(m members.Member) bool { return m.Name == name }) {
			continue
		}
		if err := t.Update(ctx, "opened."+name, func([]byte) ([]byte, error) { return nil, nil }); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (s *server) rotateTask(ctx context.Context, _ func(string) string, body []byte) (any, error) {
	var x rotateAct
	if err := gateway.Decode(body, &x); err != nil {
		return nil, err
	}
	if err := gateway.Who(x.As, x.Reason); err != nil {
		return nil, err
	}
	ring, err := s.keyring()
	if err != nil {
		return nil, err
	}
	key, err := s.newKey(x)
	if err != nil {
		return nil, err
	}
	if !x.DryRun {
		if err := ring.BeginRotation(ctx, key); err != nil {
			return nil, fault.New(fault.Conflict, "%v", err)
		}
		s.log.Warn("a person changes the master key; from now on new keys wrap and seal", "as", x.As)
		if err := s.keepRotation(ctx, x); err != nil {
			return nil, err
		}
	}
	r, err := s.keyReport(ctx)
	r.DryRun = x.DryRun
	return r, err
}

// keepRotation keeps who changed the keys and why, by the generation that it made.
func (s *server) keepRotation(ctx context.Context, x rotateAct) error {
	ring, err := s.keyring()
	if err != nil {
		return err
	}
	k, err := ring.Keys(ctx)
	if err != nil {
		return err
	}
	b, err := json.Marshal(map[string]string{"as": x.As, "reason": x.Reason, "at": time.Now().UTC().Format(time.RFC3339)})
	if err != nil {
		return err
	}
	return s.store.Table(keysOwner).Update(ctx, fmt.Sprintf("rotation.%04d", k.Generation), func(old []byte) ([]byte, error) {
		if old != nil {
			return old, nil
		}
		return b, nil
	})
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
		file += nextKey
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
	ring, err := s.keyring()
	if err != nil {
		return nil, err
	}
	r, err := s.keyReport(ctx)
	if err != nil {
		return nil, err
	}
	r.DryRun = x.DryRun
	switch {
	case len(r.Masters) < 2:
		return nil, fault.New(fault.Conflict, "no change of the master key is under way")
	case r.State == "resealing":
		return nil, fault.New(fault.Conflict, "%d of about %d rows are sealed anew: the old key is needed until that is done", r.Resealed, r.Rows)
	case len(r.Behind) > 0:
		return nil, fault.New(fault.Conflict, "started with the old key, and lost without it: %s; let master_key name the new one and restart them", strings.Join(r.Behind, ", "))
	case x.DryRun:
		return r, nil
	}
	if err := ring.FinishRotation(ctx); err != nil {
		return nil, err
	}
	s.log.Warn("a person let the old master key open nothing any more", "as", x.As)
	return s.keyReport(ctx)
}

// reseal does what a change of the keys has left to do, be it begun in another life.
func (s *server) reseal(ctx context.Context) {
	ring, err := s.keyring()
	if err != nil {
		return
	}
	look := resealLook // a transaction each time
	if s.ownKey() {
		look = time.Second
	}
	unsure := true // whether the last life put its next key in its place and came no further
	for {
		err := s.resealAll(ctx, ring)
		if err == nil && s.ownKey() {
			err = s.putKey(ctx, ring, unsure)
			unsure = err != nil
		}
		if err != nil && ctx.Err() == nil {
			s.log.Error("changing the keys", "error", err)
		}
		if clock.Sleep(ctx, clock.Real{}, look) != nil {
			return
		}
	}
}

func (s *server) resealAll(ctx context.Context, ring store.Keyring) error {
	for {
		more, err := ring.Reseal(ctx, resealRows)
		if err != nil || !more {
			return err
		}
		if err := clock.Sleep(ctx, clock.Real{}, resealBreath); err != nil {
			return err
		}
	}
}

// putKey puts the next key of a server that keeps its own in the old one's place,
// and then lets the old one open nothing: in this order, so that at each instant
// the file opens the store.
func (s *server) putKey(ctx context.Context, ring store.Keyring, unsure bool) error {
	file, err := masterKeyFile(s.cfg)
	if err != nil {
		return err
	}
	next := file + nextKey
	if _, err := os.Stat(next); errors.Is(err, fs.ErrNotExist) && !unsure {
		return nil
	}
	k, err := ring.Keys(ctx)
	if err != nil || len(k.Masters) < 2 || k.Walk != "" { // a key without a change is the next change's
		return err
	}
	if err := os.Rename(next, file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("putting the new master key in its place: %w", err)
	}
	d, err := os.Open(filepath.Dir(file))
	if err == nil {
		err = errors.Join(d.Sync(), d.Close())
	}
	if err != nil {
		return fmt.Errorf("putting the new master key in its place: %w", err)
	}
	kept, err := keptMasterKey(s.cfg)
	if err != nil {
		return err
	}
	if id, err := seal.MasterID(kept); err != nil || id != k.Masters[len(k.Masters)-1] {
		return errors.Join(err, fmt.Errorf("the new master key is neither in %s nor in %s: put it there, for the old one is still needed", next, file))
	}
	if err := ring.FinishRotation(ctx); err != nil {
		return err
	}
	s.log.Warn("the new master key is in its place, and the old one opens nothing any more: copy it to where the old one was kept apart", "file", file)
	return nil
}
