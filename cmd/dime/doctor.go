package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/dime-bus/dime/config"
	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/doctor"
	"github.com/dime-bus/dime/internal/store/backup"
	"github.com/dime-bus/dime/internal/store/erasures"
	"github.com/dime-bus/dime/internal/store/sqlite"
	"github.com/dime-bus/dime/pipeline/language"
)

func newDoctor() *cobra.Command {
	var o output
	var at settings
	var a admin
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look at everything that the bus stands on and say what is wrong and what to do",
		Long: `Look at everything that the bus stands on and say what is wrong and what to do:
the data folder and its permissions, disk and inodes, the clock, certificates, the
store with its integrity and schema, late runs, unpublished messages, dead letters,
versions that live runs need and this binary can't compile (look before an
upgrade, with the new binary), with --store and --bus the database and the broker
that processes share, their versions, clocks and what these users may, and, where a
server answers on --admin, the systems behind its connectors. It changes nothing. Exit code 1 if there is a problem.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, c, err := at.load(cmd)
			if err != nil {
				return err
			}
			fs := examine(cmd.Context(), cfg, c)
			fs = append(fs, askServer(cmd.Context(), &a)...)
			err = o.print(cmd.OutOrStdout(), fs, func(w io.Writer) error { return printFindings(w, fs) })
			if err == nil && slices.ContainsFunc(fs, func(f doctor.Finding) bool { return f.Level == doctor.Problem }) {
				err = errQuiet
			}
			return err
		},
	}
	o.flag(cmd)
	at.flags(cmd, "data", "master-key", "store", "store-password", "bus", "bus-password")
	adminFlag(&a, cmd)
	return cmd
}

func printFindings(w io.Writer, fs []doctor.Finding) error {
	count := map[doctor.Level]int{}
	for _, f := range fs {
		count[f.Level]++
		word := string(f.Level)
		switch f.Level {
		case doctor.Problem:
			word = paint(w, red, word)
		case doctor.Warning:
			word = paint(w, yellow, word)
		case doctor.Skipped:
			word = paint(w, dim, word)
		case doctor.OK:
		}
		if _, err := fmt.Fprintf(w, "%-12s %-13s %s\n", word, f.Check, f.What); err != nil {
			return err
		}
		if f.Do != "" {
			fmt.Fprintf(w, "%26s -> %s\n", "", f.Do)
		}
	}
	_, err := fmt.Fprintf(w, "%d problems, %d warnings, %d not checked\n", count[doctor.Problem], count[doctor.Warning], count[doctor.Skipped])
	return err
}

// examine is what can be seen from here, with or without a server.
func examine(ctx context.Context, cfg config.Config, c *content) []doctor.Finding {
	var fs []doctor.Finding
	fs = append(fs, doctor.Folder(cfg.Data, time.Now)...)
	fs = append(fs, keyFindings(cfg)...)
	fs = append(fs, certificateFindings(cfg)...)
	l := c.load()
	if bad := refusals(l.problems); len(bad) > 0 {
		fs = append(fs, doctor.Bad("content", "run dime lint", "%d mistakes in routes, schemas and configuration; the first: %s", len(bad), bad[0]))
	} else {
		fs = append(fs, doctor.Fine("content", "%d routes and %d connectors are right", len(l.city.Routes), len(l.connectors)))
	}
	fs = append(fs, brokerFindings(ctx, cfg)...)
	if cfg.Store.Set() {
		return append(fs, sharedFindings(ctx, cfg, l.city)...)
	}
	return append(fs, storeFindings(ctx, cfg, l.city)...)
}

// keyFindings are about the files that hold keys.
func keyFindings(cfg config.Config) []doctor.Finding {
	var out []doctor.Finding
	paths := []string{filepath.Join(cfg.Data, backup.Database), cfg.SoapTLS.Key}
	if !cfg.MasterKey.Set() {
		file, err := masterKeyFile(cfg)
		if err != nil {
			return []doctor.Finding{doctor.Bad("keys", "name the data folder", "%v", err)}
		}
		paths = append(paths, file)
	}
	if list, err := erasures.Beside(cfg.Data); err == nil {
		paths = append(paths, list)
		if _, err := erasures.Read(list); err != nil && !errors.Is(err, fs.ErrNotExist) {
			out = append(out, doctor.Bad("erasures", "put the list back as dime wrote it", "%v", err))
		}
	}
	secrets := []config.Secret{cfg.MasterKey, cfg.Store.Password, cfg.Bus.Password}
	for _, b := range cfg.Brokers {
		secrets = append(secrets, b.Password)
	}
	for _, c := range cfg.Clients {
		secrets = append(secrets, c.Secret)
	}
	for _, s := range cfg.Documents.Seals {
		secrets = append(secrets, s.Key)
	}
	for _, s := range secrets {
		if !s.Set() {
			continue
		}
		paths = append(paths, s.File())
		if _, err := s.Resolve(); err != nil {
			out = append(out, doctor.Bad("secrets", "put the secret where its reference points", "%v", err))
		}
	}
	slices.Sort(paths)
	for _, p := range slices.Compact(paths) {
		if p != "" {
			out = append(out, doctor.Private(p)...)
		}
	}
	if _, err := keptMasterKey(cfg); err != nil {
		do := "put the master key back: without it nothing can be read"
		if _, derr := os.Stat(filepath.Join(cfg.Data, backup.Database)); errors.Is(derr, fs.ErrNotExist) {
			do = "start the server once, or name the key with master_key"
		}
		out = append(out, doctor.Bad("keys", do, "%v", err))
	}
	return out
}

func certificateFindings(cfg config.Config) []doctor.Finding {
	var out []doctor.Finding
	look := func(name string, b []byte, err error) {
		if err != nil {
			out = append(out, doctor.Bad("certificates", "put the certificate there", "%s: %v", name, err))
			return
		}
		out = append(out, doctor.Certificates(name, b, time.Now())...)
	}
	for name, file := range map[string]string{"soap_tls.certificate": cfg.SoapTLS.Certificate, "soap_tls.client_ca": cfg.SoapTLS.ClientCA} {
		if file != "" {
			b, err := os.ReadFile(file)
			look(name, b, err)
		}
	}
	for i, s := range cfg.Documents.Seals {
		text, err := s.Certificate.Resolve()
		look(fmt.Sprintf("documents.seals[%d]", i), []byte(text), err)
	}
	return out
}

// storeFindings look into the file, while a server may be at work on it.
func storeFindings(ctx context.Context, cfg config.Config, city *language.City) []doctor.Finding {
	path := filepath.Join(cfg.Data, backup.Database)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return []doctor.Finding{doctor.Skip("store", "%s is not there yet: the server makes it", path)}
	}
	f, err := sqlite.Look(ctx, path)
	if err != nil {
		return []doctor.Finding{doctor.Bad("store", "run the dime that wrote it, or restore a backup: dime restore", "%v", err)}
	}
	out := []doctor.Finding{doctor.Fine("store", "schema %d, %d runs, %d of them live, %d MiB", f.Schema, f.Runs, f.Live, f.Bytes>>20)}
	if err := sqlite.Check(ctx, path); err != nil {
		out = append(out, doctor.Bad("store", "stop the server, keep this folder, and restore the last backup: dime restore", "%v", err))
	} else {
		out = append(out, doctor.Fine("store", "every page, index and row of it is whole"))
	}
	if f.Log > 512<<20 {
		out = append(out, doctor.Warn("store", "see whether a reader holds it back, such as a backup that hangs", "its write-ahead log has %d MiB", f.Log>>20))
	}
	if f.Late > 0 {
		out = append(out, doctor.Warn("timers", "if a server is at work: see its log, and whether background_slots are all in use; else start it", "%d runs are due, the oldest since %s", f.Late, f.LateBy.Round(time.Second)))
	} else {
		out = append(out, doctor.Fine("timers", "no run is late"))
	}
	switch {
	case f.Stuck > 0:
		out = append(out, doctor.Bad("outbox", "see the server's log for why the bus refuses them", "%d messages were tried three times and are not published", f.Stuck))
	default:
		out = append(out, doctor.Fine("outbox", "%d messages wait to be published, none for long", f.Outbox))
	}
	if n := f.States["parked"] + f.States["failed"]; n > 0 {
		out = append(out, doctor.Warn("dead letters", "dime runs ls --state parked,failed", "%d runs wait for a person", n))
	}
	if f.Parked > 0 {
		out = append(out, doctor.Warn("dead letters", "see the server's log for their reasons", "%d messages were parked, for no subscriber could take them", f.Parked))
	}
	return append(out, versionFindings(cfg, city, f.Versions, func(key []byte, digest string) (map[string][]byte, error) {
		return sqlite.Sources(ctx, path, key, digest)
	})...)
}

// versionFindings compile what live runs need (semantics 10.3).
func versionFindings(cfg config.Config, city *language.City, pinned []sqlite.Pinned, sources func(key []byte, digest string) (map[string][]byte, error)) []doctor.Finding {
	const check = "versions"
	if len(pinned) == 0 {
		return []doctor.Finding{doctor.Fine(check, "no live run needs one")}
	}
	key, err := keptMasterKey(cfg)
	if err != nil || city == nil {
		return []doctor.Finding{doctor.Skip(check, "%d versions of live runs can't be read without the master key and the content", len(pinned))}
	}
	source := func(digest string) (src language.Source, err error) {
		m, err := sources(key, digest)
		if err == nil && m[digest] == nil {
			err = errors.New("its source is not in the store")
		}
		if err == nil {
			err = json.Unmarshal(m[digest], &src)
		}
		return src, err
	}
	var out []doctor.Finding
	for _, p := range pinned {
		src, err := source(p.Digest)
		if err == nil {
			_, err = language.Recompile(src, language.Options{Connectors: city.Connectors, City: city, Version: source,
				Within: cfg.Engine.Within, Patience: cfg.Engine.Patience})
		}
		if err != nil {
			out = append(out, doctor.Bad(check, "keep the old binary and connectors until they have ended, or move them: dime runs migrate",
				"%s version %d: %d live runs park at their next step, for this binary can't compile it: %v", p.Route, p.Label, p.Runs, err))
		}
	}
	if out == nil {
		out = append(out, doctor.Fine(check, "all %d versions that live runs need compile", len(pinned)))
	}
	return out
}

// askServer has the server look at what only it reaches.
func askServer(ctx context.Context, a *admin) []doctor.Finding {
	var answer struct {
		Findings []doctor.Finding `json:"findings"`
	}
	if err := a.do(ctx, http.MethodGet, "/doctor", nil, &answer); err != nil {
		return []doctor.Finding{doctor.Skip("server", "what only a server sees: %v", err)}
	}
	return answer.Findings
}

// doctorTask is the server's own look.
func (s *server) doctorTask(ctx context.Context, _ func(string) string, _ []byte) (any, error) {
	var fs []doctor.Finding
	if err := s.isReady(ctx); err != nil {
		fs = append(fs, doctor.Bad("server", "see its log", "it is not ready: %v", err))
	} else {
		fs = append(fs, doctor.Fine("server", "it takes requests"))
	}
	if c, ok := s.store.(interface {
		Skew(ctx context.Context) (time.Duration, error)
	}); ok {
		at := time.Now()
		d, err := c.Skew(ctx)
		if err != nil {
			fs = append(fs, doctor.Bad("store", "see whether PostgreSQL answers", "%v", err))
		} else {
			fs = append(fs, doctor.Fine("store", "PostgreSQL answers"), doctor.Clock("the store", at.Add(d), at))
		}
	}
	ps, err := s.pauses().List(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range ps {
		fs = append(fs, doctor.Warn("connectors", "dime connectors resume "+p.Connector, "%s is paused until %s", p.Connector, p.Until.Format(time.RFC3339)))
	}
	return map[string]any{"findings": append(fs, s.reachable(ctx)...)}, nil
}

// reachable asks every connector that can tell whether its far side is there.
func (s *server) reachable(ctx context.Context) []doctor.Finding {
	s.reloading.Lock()
	var cs map[string]connectors.Connector
	if last := s.content.last; last != nil {
		cs = last.connectors
	}
	s.reloading.Unlock()
	names := slices.Sorted(maps.Keys(cs))
	out := make([]doctor.Finding, len(names))
	done := make(chan struct{})
	for i, name := range names {
		go func() {
			defer func() { done <- struct{}{} }()
			checker, ok := cs[name].(connectors.Checker)
			if !ok {
				out[i] = doctor.Skip("connectors", "%s can't be asked without doing something", name)
				return
			}
			if err := checker.Check(ctx); err != nil {
				out[i] = doctor.Bad("connectors", "see whether its system runs; pause it meanwhile: dime connectors pause "+name, "%s: %v", name, err)
				return
			}
			out[i] = doctor.Fine("connectors", "%s answers", name)
		}()
	}
	for range names {
		<-done
	}
	return out
}
