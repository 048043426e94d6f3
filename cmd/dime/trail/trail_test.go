package trail

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/spf13/cobra"

	"github.com/dime-bus/dime/config"
	"github.com/dime-bus/dime/internal/audit"
	"github.com/dime-bus/dime/internal/gateway"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/backup"
	"github.com/dime-bus/dime/internal/store/postgres"
	"github.com/dime-bus/dime/internal/store/sqlite"
	"github.com/dime-bus/dime/test/cluster"
)

func TestMain(m *testing.M) { os.Exit(cluster.PostgresMain(m)) }

var errQuiet = errors.New("quiet")

type usage struct{ error }

func dime(t *testing.T, cfg config.Config, args ...string) (string, error) {
	t.Helper()
	cmd := Command(func() Host {
		return Host{Flags: func(*cobra.Command, ...string) {}, Load: func(*cobra.Command) (config.Config, error) { return cfg, nil },
			Usage: func(err error) error { return usage{err} }, Quiet: errQuiet}
	})
	var out bytes.Buffer
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&bytes.Buffer{})
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

// A process's life on both stores, and the commands beside it.
func TestALifeIsInTheAudit(t *testing.T) {
	key := make([]byte, 32)
	for name, open := range map[string]func(t *testing.T, cfg *config.Config) store.Store{
		"a file": func(t *testing.T, cfg *config.Config) store.Store {
			s, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(cfg.Data, backup.Database), MasterKey: key})
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		"PostgreSQL": func(t *testing.T, cfg *config.Config) store.Store {
			cfg.Store.URLs = []string{cluster.Postgres(t)}
			s, err := postgres.Open(t.Context(), postgres.Options{URL: cfg.Store.URLs[0], MasterKey: key, Migrate: true})
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config.Default()
			cfg.Data = t.TempDir()
			cfg.Audit.File = filepath.Join(cfg.Data, "witness")
			s := open(t, &cfg)
			defer s.Close()
			tr, err := New(cfg, s, true, slog.New(slog.DiscardHandler), "w1", "1.2.3", "abc")
			if err != nil {
				t.Fatal(err)
			}
			content := fstest.MapFS{"routes/a.yaml": {Data: []byte("a")}, "else/b": {Data: []byte("b")}}
			tops := []string{"routes", "schemas"}
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			must(tr.Reloaded(content, tops, errors.New("2 mistakes")))
			must(tr.Reloaded(content, tops, nil))
			content["routes/a.yaml"] = &fstest.MapFile{Data: []byte("c")}
			must(tr.Reloaded(content, tops, nil))
			content["else/b"] = &fstest.MapFile{Data: []byte("c")}
			must(tr.Reloaded(content, tops, errors.New("1 mistakes")))
			_, err = tr.Act(t.Context(), gateway.Audited{Who: "anna", Action: "subjects.erase", Person: "RSSMRA80A01L736U", Reason: "RSSMRA80A01L736U asked"})
			must(err)
			must(tr.Record(t.Context(), "anna", "letters.drop", "", "why", map[string]any{"rate": 3}))
			must(Beside(t.Context(), cfg, "store.migrate", "", map[string]any{"version": "1"}))
			tr.Stopped()

			out, err := dime(t, cfg, "export")
			must(err)
			if strings.Contains(out, "RSSMRA") {
				t.Errorf("a codice fiscale is in clear: %s", out)
			}
			var did []string
			for _, l := range strings.Split(out, "\n")[1:] {
				if _, rest, ok := strings.Cut(l, `"action":"`); ok {
					a, _, _ := strings.Cut(rest, `"`)
					did = append(did, a)
				}
			}
			if got := strings.Join(did, " "); got != "content.reload server.start content.reload content.reload subjects.erase letters.drop store.migrate server.stop" {
				t.Errorf("the audit says %s", got)
			}
			lines := strings.Split(out, "\n")
			if !strings.Contains(lines[2], `\"version\":\"1.2.3\"`) || !strings.Contains(lines[1], "refused") || !strings.Contains(lines[3], "accepted") || !strings.Contains(lines[4], "1 mistakes") {
				t.Errorf("releases: %s", strings.Join(lines[1:5], "\n"))
			}
			file := filepath.Join(cfg.Data, "export")
			must(os.WriteFile(file, []byte(out), 0o600))
			for _, args := range [][]string{{"verify"}, {"verify", "--witness", cfg.Audit.File}, {"verify", "--file", file, "--witness", cfg.Audit.File, "-o", "json"}} {
				if out, err := dime(t, cfg, args...); err != nil {
					t.Errorf("%v: %s, %v", args, out, err)
				}
			}
			must(os.WriteFile(file, []byte(strings.Join(lines[:8], "\n")), 0o600))
			if out, err := dime(t, cfg, "verify", "--file", file, "--witness", cfg.Audit.File); !errors.Is(err, errQuiet) || !strings.Contains(out, "row") {
				t.Errorf("the last row is gone: %s, %v", out, err)
			}
			empty, err := dime(t, cfg, "export", "--since", "2100-01-01")
			must(err)
			must(os.WriteFile(file, []byte(empty), 0o600))
			if out, err := dime(t, cfg, "verify", "--file", file, "--witness", cfg.Audit.File); err != nil {
				t.Errorf("nothing since 2100: %s, %v", out, err)
			}
			if out, err := dime(t, cfg, "export", "-o", "table", "--until", "2100-01-01"); err != nil || !strings.Contains(out, "letters.drop") {
				t.Errorf("%s, %v", out, err)
			}
			for _, bad := range [][]string{{"export", "--since", "soon"}, {"export", "-o", "sheep"}, {"verify", "-o", "yaml"}} {
				var u usage
				if _, err := dime(t, cfg, bad...); !errors.As(err, &u) {
					t.Errorf("%v: %v", bad, err)
				}
			}
			if g := tr.Gauges(); len(g) != 3 || g[0].Read() == 0 || g[1].Read() != 0 || g[2].Read() != 0 {
				t.Errorf("gauges %v", g)
			}
		})
	}
}

// closed is a store that takes nothing any more.
type closed struct{ store.Store }

func (closed) AppendAudit(context.Context, store.AuditEntry) (store.AuditRow, error) {
	return store.AuditRow{}, store.ErrFull
}
func (closed) AuditRows(context.Context, int64, int) ([]store.AuditRow, error) { return nil, nil }
func (closed) AuditHead(context.Context) (int64, []byte, error)                { return 0, nil, nil }
func (closed) AuditPerson(context.Context, store.AuditRow) (string, error)     { return "", nil }

func TestWithoutAnAuditNothingStarts(t *testing.T) {
	if _, err := New(config.Default(), nil, true, slog.New(slog.DiscardHandler), "w", "", ""); err == nil {
		t.Error("a store without an audit is taken")
	}
	tr, err := New(config.Default(), closed{}, true, slog.New(slog.DiscardHandler), "w", "", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Reloaded(fstest.MapFS{}, nil, nil); !errors.Is(err, store.ErrFull) {
		t.Error(err)
	}
	if g := tr.Gauges(); g != nil {
		t.Errorf("gauges of no witness: %v", g)
	}
	tr.Stopped() // logs
	if _, err := audit.Entry(audit.CLI, audit.Act{}); err != nil {
		t.Error(err)
	}
}
