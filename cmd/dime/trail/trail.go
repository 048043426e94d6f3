// Package trail writes what a process and its people do into the audit, and has
// the commands that read it.
package trail

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os/user"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/dime-bus/dime/config"
	"github.com/dime-bus/dime/internal/audit"
	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/gateway"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/backup"
	"github.com/dime-bus/dime/internal/store/postgres"
	"github.com/dime-bus/dime/internal/store/sqlite"
	"github.com/dime-bus/dime/internal/telemetry"
)

// Trail is a process's part of the audit.
type Trail struct {
	admin, server audit.Log
	witness       *audit.Witness // nil unless this process holds the timers
	log           *slog.Logger
	who           string
	version       map[string]any

	digest string // of the content in force
}

// New makes one for a process called worker of a release.
func New(cfg config.Config, s store.Store, timers bool, log *slog.Logger, worker, version, revision string) (*Trail, error) {
	kept, ok := s.(store.Audit)
	if !ok {
		return nil, errors.New("the store keeps no audit")
	}
	t := &Trail{
		admin: audit.Log{Store: kept, Channel: audit.Admin}, server: audit.Log{Store: kept, Channel: audit.Server}, log: log,
		who:     me() + " " + worker,
		version: map[string]any{"version": version, "revision": revision, "roles": cfg.Roles},
	}
	if timers {
		t.witness = &audit.Witness{Store: kept, City: cfg.Name, File: cfg.Audit.File, URL: cfg.Audit.URL, Every: cfg.Audit.Every, Clock: clock.Real{}, Log: log}
	}
	return t, nil
}

// me is the user that this process runs as.
func me() string {
	u, err := user.Current()
	if err != nil {
		return "unknown"
	}
	return u.Username
}

// Act is what the admin face asks for each act.
func (t *Trail) Act(ctx context.Context, a gateway.Audited) (int64, error) {
	return t.admin.Write(ctx, audit.Act{Who: a.Who, Action: a.Action, Target: a.Target, Reason: a.Reason, Person: a.Person, Detail: a.Detail})
}

// Record writes what a person has begun or done by other ways than a request.
func (t *Trail) Record(ctx context.Context, who, action, target, reason string, detail map[string]any) error {
	return t.admin.Record(ctx, who, action, target, reason, detail)
}

// Destroys writes that a person's keys are about to be destroyed, as who asked for it
// wants: at once, or when the person's runs have ended.
func (t *Trail) Destroys(ctx context.Context, as, request, subject string, runs int) error {
	_, err := t.server.Write(ctx, audit.Act{Who: as, Action: "subjects.destroy", Target: request, Person: subject, Detail: map[string]any{"runs": runs}})
	return err
}

// Reloaded writes a release of content: taken or refused. The first of a process is
// its start, and without its row the process does not serve.
func (t *Trail) Reloaded(content fs.FS, tops []string, refused error) error {
	after, err := Digest(content, tops)
	if err != nil {
		t.log.Warn("taking the content's digest for the audit", "error", err)
	}
	action, detail := "content.reload", map[string]any{"before": t.digest, "after": after, "outcome": "accepted"}
	if refused != nil {
		detail["outcome"], detail["why"] = "refused", refused.Error()
	}
	if t.digest == "" && refused == nil {
		action = "server.start"
		for k, v := range t.version {
			detail[k] = v
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err = t.server.Record(ctx, t.who, action, "", "", detail)
	if refused == nil {
		t.digest = after
	}
	return err
}

// Run tells the witness, until ctx ends.
func (t *Trail) Run(ctx context.Context) {
	if t.witness != nil {
		t.witness.Run(ctx)
	}
}

// Stopped writes that the process ends as it should, and tells the witness.
func (t *Trail) Stopped() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := t.server.Record(ctx, t.who, "server.stop", "", "", t.version)
	if t.witness != nil {
		err = errors.Join(err, t.witness.Tell(ctx))
	}
	if err != nil {
		t.log.Error("writing to the audit that this process ends", "error", err)
	}
}

// Gauges say how the witness stands.
func (t *Trail) Gauges() []telemetry.Gauge {
	if t.witness == nil || !t.witness.Set() {
		return nil
	}
	truth := func(of func(audit.WitnessState) bool) func() float64 {
		return func() float64 {
			if of(t.witness.State()) {
				return 1
			}
			return 0
		}
	}
	return []telemetry.Gauge{
		{Name: "audit_witness_told_timestamp_seconds", Help: "When the audit's head was last told to its witness; 0 for never.", Read: func() float64 {
			if at := t.witness.State().Told; !at.IsZero() {
				return float64(at.UnixMilli()) / 1000
			}
			return 0
		}},
		{Name: "audit_witness_failing", Help: "1 while the audit's witness is not reached.", Read: truth(func(s audit.WitnessState) bool { return s.Failing })},
		{Name: "audit_witness_cut", Help: "1 while the witness has seen more rows of the audit than the store has.", Read: truth(func(s audit.WitnessState) bool { return s.Cut })},
	}
}

// Digest is over the names and bytes of all files of a content.
func Digest(content fs.FS, tops []string) (string, error) {
	h := sha256.New()
	for _, top := range tops {
		err := fs.WalkDir(content, top, func(name string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil || d.IsDir() {
				return err
			}
			b, err := fs.ReadFile(content, name)
			if err != nil {
				return err
			}
			sum := sha256.Sum256(b)
			fmt.Fprintf(h, "%s\x00%x\n", name, sum)
			return nil
		})
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Beside writes a command's act into the audit of a data folder or database,
// beside the processes that are at work on it.
func Beside(ctx context.Context, cfg config.Config, action, target string, detail map[string]any) error {
	e, err := audit.Entry(audit.CLI, audit.Act{Who: me(), Action: action, Target: target, Detail: detail})
	if err != nil {
		return err
	}
	if cfg.Store.Set() {
		return postgres.AddAudit(ctx, cfg.Store.URLs[0], passwordOf(cfg.Store), e)
	}
	return sqlite.AddAudit(ctx, filepath.Join(cfg.Data, backup.Database), e)
}

// passwordOf is nil where the server asks for none.
func passwordOf(b config.Backend) func(context.Context) (string, error) {
	if !b.Password.Set() {
		return nil
	}
	return func(context.Context) (string, error) { return b.Password.Resolve() }
}

// Around writes that a command begins, and gives what writes how it went. A backup
// that can't be written down is made all the same: it may be what saves the city.
func Around(cmd *cobra.Command, cfg config.Config, action, target string) (done func(error)) {
	write := func(detail map[string]any) {
		if err := Beside(cmd.Context(), cfg, action, target, detail); err != nil {
			fmt.Fprintf(cmd.ErrOrStderr(), "this is not in the audit: %v\n", err)
		}
	}
	write(map[string]any{"outcome": "begins"})
	return func(err error) {
		detail := map[string]any{"outcome": "done"}
		if err != nil {
			detail = map[string]any{"outcome": "failed", "why": err.Error()}
		}
		write(detail)
	}
}
