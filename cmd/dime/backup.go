package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/dime-bus/dime/cmd/dime/trail"
	"github.com/dime-bus/dime/config"
	"github.com/dime-bus/dime/internal/audit"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/backup"
	"github.com/dime-bus/dime/internal/store/erasures"
	"github.com/dime-bus/dime/internal/store/sqlite"
)

func newBackup() *cobra.Command {
	var o output
	var at settings
	var dry bool
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Write the data folder into one file, while the server works on",
		Long: `Write the data folder into one file, while the server works on.

The file holds one state of the journal: every run that was accepted before the
backup began is in it whole. It is checked before it appears, and never replaces
another. What is not in it, on purpose:

  the master key (DATA.master-key, or what master_key names): without it nobody
    reads the backup; keep a copy of it somewhere else
  the list of erasures (DATA.erasures): copy it apart from the backups after
    every "dime subject erase"; a restore destroys the keys that it names again
  the virtual city: it plays the outside world

Events and messages are kept for 7 days and are sealed by the city's key alone: an
erasure does not reach them in a backup. Keep no backup longer than you need it.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, _, err := at.load(cmd)
			if err != nil {
				return err
			}
			if cfg.Store.Set() {
				return usageError{errors.New("the runs are in PostgreSQL, not in the data folder: copy the database with pg_dump or pg_basebackup as deploy/postgres/README.md says, and DATA.erasures of each process apart from it")}
			}
			if dry {
				return dryBackup(cmd, cfg, &o, args[0])
			}
			done := trail.Around(cmd, cfg, "store.backup", args[0])
			m, err := backup.Write(cmd.Context(), cfg.Data, args[0], thisVersion().Version)
			done(err)
			if err != nil {
				return err
			}
			return o.print(cmd.OutOrStdout(), m, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%s holds the state of %s: %d runs, %d of them live, %d files\nnot in it: the master key and the list of erasures (dime help backup)\n",
					args[0], m.At.Local().Format(time.DateTime), m.Runs, m.Live, len(m.Files))
				return err
			})
		},
	}
	o.flag(cmd)
	at.flags(cmd, "data", "store", "store-password")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "say how large the backup would be and write nothing")
	return cmd
}

func dryBackup(cmd *cobra.Command, cfg config.Config, o *output, file string) error {
	f, err := sqlite.Look(cmd.Context(), filepath.Join(cfg.Data, backup.Database))
	if err != nil {
		return fmt.Errorf("backing %s up: %w", cfg.Data, err)
	}
	return o.print(cmd.OutOrStdout(), f, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s would hold %d runs, %d of them live: about %d bytes; nothing was written\n", file, f.Runs, f.Live, f.Bytes)
		return err
	})
}

// restored is what `dime restore` says it did.
type restored struct {
	backup.Manifest
	Data   string `json:"data"`
	Erased int    `json:"erased"` // persons without a key
	DryRun bool   `json:"dry_run"`
}

// noList is the word for a restore that no list of erasures is at hand for.
const noList = "none"

func newRestore() *cobra.Command {
	var o output
	var at settings
	var list string
	var dry bool
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Put a backup into an empty data folder",
		Long: `Put a backup into an empty data folder, and make it ready to be served.

Every byte is compared with the backup's own digests, the database is checked
whole, the master key must be the one that it was made with, and the keys that
the list of erasures names are destroyed again before anything is in its place.
What fails leaves no trace. Numbers of runs go on far beyond those of the backup,
so that no new effect gets a key that a far side has seen.

Runs that were live at the backup's instant go on from there. What they did since
is not known here: effects that are keyed or found_by are recognised by the far
side; others may be done a second time. Look at those first:
dime serve --listen 127.0.0.1:0, dime runs ls --state running,waiting`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, _, err := at.load(cmd)
			if err != nil {
				return err
			}
			r := restored{Data: cfg.Data, DryRun: dry}
			if list == "" {
				if list, err = erasures.Beside(cfg.Data); err != nil {
					return err
				}
			}
			key, err := keptMasterKey(cfg)
			if err != nil {
				return err
			}
			check := func(folder string) (err error) {
				r.Erased, err = eraseAgain(cmd.Context(), folder, list, key)
				return err
			}
			if dry {
				r.Manifest, err = backup.Verify(args[0])
			} else {
				if r.Manifest, err = backup.Restore(cmd.Context(), args[0], cfg.Data, check); err == nil {
					err = trail.Beside(cmd.Context(), cfg, audit.ActionRestore, args[0], map[string]any{"state_of": r.At})
				}
			}
			if err != nil {
				return err
			}
			return o.print(cmd.OutOrStdout(), r, func(w io.Writer) error { return r.text(w) })
		},
	}
	o.flag(cmd)
	at.flags(cmd, "data", "master-key")
	f := cmd.Flags()
	f.StringVar(&list, "erasures", "", `list of destroyed keys (default DATA.erasures); "none" restores without, and what was erased since the backup is readable again`)
	f.BoolVar(&dry, "dry-run", false, "check the backup to its last byte and restore nothing")
	return cmd
}

func (r restored) text(w io.Writer) error {
	if r.DryRun {
		_, err := fmt.Fprintf(w, "whole: the state of %s by dime %s: %d runs, %d of them live; nothing was restored\n", r.At.Local().Format(time.DateTime), r.Version, r.Runs, r.Live)
		return err
	}
	_, err := fmt.Fprintf(w, "%s holds the state of %s: %d runs, %d of them live; %d persons are erased\n", r.Data, r.At.Local().Format(time.DateTime), r.Runs, r.Live, r.Erased)
	if err == nil && r.Live > 0 {
		_, err = fmt.Fprintln(w, "live runs go on from that instant: effects that no far side recognises may be done a second time (dime help restore)")
	}
	return err
}

// eraseAgain opens a restored memory once, by which the keys that the list names
// are destroyed, and counts those that are gone.
func eraseAgain(ctx context.Context, folder, list string, key []byte) (n int, err error) {
	opts := sqlite.Options{Path: filepath.Join(folder, backup.Database), MasterKey: key}
	known := map[[16]byte]bool{}
	if list != noList {
		es, err := erasures.Read(list)
		if errors.Is(err, fs.ErrNotExist) {
			return 0, fmt.Errorf("%w: put the city's list there, or name it with --erasures; --erasures none restores without, and what was erased since the backup is readable again", err)
		}
		if err != nil {
			return 0, err
		}
		for _, e := range es {
			known[e.Token] = true
		}
		opts.Erasures = given(es)
	}
	s, err := sqlite.Open(ctx, opts)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	tokens, err := s.Destroyed(ctx)
	if err != nil {
		return 0, err
	}
	missing := 0
	for _, t := range tokens {
		if !known[t] {
			missing++
		}
	}
	if list != noList && missing > 0 {
		return 0, fmt.Errorf("the list of erasures %s lacks %d persons whom the backup itself knows as erased: it is another city's, or older than the backup; name the right one with --erasures", list, missing)
	}
	return len(tokens), nil
}

// given is a list that is only read.
type given []store.Erasure

func (g given) Add(...store.Erasure) error    { return errors.New("this list of erasures is only read") }
func (g given) All() ([]store.Erasure, error) { return g, nil }

// erasuresOf opens the list of a data folder.
func erasuresOf(cfg config.Config) (*erasures.File, error) {
	path, err := erasures.Beside(cfg.Data)
	if err != nil {
		return nil, err
	}
	return erasures.Open(path)
}
