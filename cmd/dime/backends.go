package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/dime-bus/dime/cmd/dime/trail"
	"github.com/dime-bus/dime/config"
	"github.com/dime-bus/dime/internal/bus"
	"github.com/dime-bus/dime/internal/bus/amqp"
	"github.com/dime-bus/dime/internal/bus/embedded"
	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/identity"
	"github.com/dime-bus/dime/internal/members"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/postgres"
	"github.com/dime-bus/dime/internal/store/serial"
	"github.com/dime-bus/dime/internal/store/sqlite"
	"github.com/dime-bus/dime/internal/testhook"
	"github.com/dime-bus/dime/pipeline/language"
)

// shared says whether other processes may work on the same store.
func (s *server) shared() bool { return s.cfg.Store.Set() }

func (s *server) has(role string) bool { return slices.Contains(s.cfg.Roles, role) }

// openStore opens the file in the data folder, or the database that all processes
// share, and what hangs on which of them it is.
func (s *server) openStore(ctx context.Context, key []byte, erased store.Erasures) error {
	if !s.shared() {
		s.worker = "embedded"
		file, err := sqlite.Open(ctx, sqlite.Options{
			Path: filepath.Join(s.cfg.Data, "dime.db"), MasterKey: key, Worker: s.worker,
			LeaseFor: s.cfg.Engine.Lease, Log: s.log, Erasures: erased,
		})
		if err != nil {
			return err
		}
		s.store = file
		s.closers = append(s.closers, file.Close)
		s.numbers, err = serial.Open(filepath.Join(s.cfg.Data, "numbers"))
		return err
	}
	s.worker = processName()
	base, err := postgres.Open(ctx, postgres.Options{
		URL: s.cfg.Store.URLs[0], Password: passwordOf(s.cfg.Store), MasterKey: key, Worker: s.worker,
		LeaseFor: s.cfg.Engine.Lease, Log: s.log, Erasures: erased,
		// In a real city the schema's owner runs dime migrate; the bus's own role may not.
		Migrate: s.cfg.City.Mode != "off",
	})
	if err != nil {
		return err
	}
	s.store = base
	s.closers = append(s.closers, base.Close)
	s.numbers = serial.NewShared(base.Table(serial.Owner), base)
	s.members, err = members.Join(ctx, base.Table(members.Owner), clock.Real{}, s.log, s.worker, s.cfg.Roles)
	return err
}

// openBus opens the bus over RabbitMQ, or over the store's own tables.
func (s *server) openBus() error {
	if !s.cfg.Bus.Set() {
		s.bus = embedded.New(s.store, clock.Real{}, s.log)
		s.closers = append(s.closers, s.bus.Close)
		return nil
	}
	broker := amqp.New(amqp.Options{URLs: nodes(s.cfg.Bus), History: s.store, Log: s.log})
	s.bus, s.broker = testhook.Bus(os.Getenv, broker), broker
	s.closers = append(s.closers, broker.Close)
	return nil
}

// keepLog has the events of a city written down for the programs that may read them,
// and no others: each would cost a queue and a row a message. Embedded, the bus's own
// tables are the log.
func (s *server) keepLog(c *language.City) error {
	if s.broker == nil || !s.has(config.Worker) {
		return nil
	}
	var topics []string
	for topic := range c.Events {
		if slices.ContainsFunc(s.cfg.Clients, func(c config.Client) bool { return identity.Rights{Subscribe: c.Subscribe}.MaySubscribe(topic) }) {
			topics = append(topics, topic)
		}
	}
	return s.broker.KeepLog(topics...)
}

// nodes are a bus's URLs with the password as it is now.
func nodes(b config.Backend) func(context.Context) ([]string, error) {
	return func(context.Context) ([]string, error) {
		out := slices.Clone(b.URLs)
		if !b.Password.Set() {
			return out, nil
		}
		password, err := b.Password.Resolve()
		if err != nil {
			return nil, fmt.Errorf("reading the password of the bus: %w", err)
		}
		for i, text := range out {
			u, err := url.Parse(text)
			if err != nil {
				return nil, fmt.Errorf("reading the URL of the bus: %w", err)
			}
			u.User = url.UserPassword(u.User.Username(), password)
			out[i] = u.String()
		}
		return out, nil
	}
}

// passwordOf is nil where the server asks for none.
func passwordOf(b config.Backend) func(context.Context) (string, error) {
	if !b.Password.Set() {
		return nil
	}
	return func(context.Context) (string, error) { return b.Password.Resolve() }
}

// processName tells processes apart, also two lives of one.
func processName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "process"
	}
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand
	return fmt.Sprintf("%s-%d-%s", host, os.Getpid(), hex.EncodeToString(b[:]))
}

// processes counts those that share the limits of routes and backends (semantics
// 11.3).
func (s *server) processes() int {
	if s.members == nil {
		return 1
	}
	n := 0
	for _, m := range s.members.Alive() {
		if slices.Contains(m.Roles, config.Gateway) || slices.Contains(m.Roles, config.Worker) {
			n++
		}
	}
	return max(n, 1)
}

// busLog is the bus's log as programs read it.
type busLog struct{ bus bus.Bus }

func (l busLog) Log(ctx context.Context, topic string, after int64, max int) ([]store.Message, error) {
	ms, _, err := l.bus.Log(ctx, topic, after, max)
	out := make([]store.Message, len(ms))
	for i, m := range ms {
		r := received(m)
		out[i] = store.Message{Seq: bus.CursorOf(m), ID: r.ID, Topic: r.Type, Body: r.Body, Meta: r.Meta, At: r.At}
	}
	return out, err
}

// divide tells the backends' guards how many share what they allow.
func (s *server) divide(ctx context.Context) {
	for again := error(nil); again == nil; again = clock.Sleep(ctx, clock.Real{}, members.Every) {
		s.guards.share(s.processes())
	}
}

func newMigrate() *cobra.Command {
	var f settings
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Bring the shared store's schema up to date",
		Long: `Bring the schema of the PostgreSQL store up to date, and make it if it is not
there. --store names a role that owns the schema dime or may create it; the role
that the bus works as need not. Migrations only add, so the binaries that are at
work go on meanwhile. To run it again changes nothing.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, _, err := f.load(cmd)
			if err != nil {
				return err
			}
			if !cfg.Store.Set() {
				return usageError{fmt.Errorf("there is nothing to migrate: name the PostgreSQL store with --store (a file in --data is brought up to date as it is opened)")}
			}
			if err := postgres.Migrate(cmd.Context(), cfg.Store.URLs[0], passwordOf(cfg.Store)); err != nil {
				return err
			}
			if _, err := fmt.Fprintln(cmd.OutOrStdout(), "the schema is up to date"); err != nil {
				return err
			}
			return trail.Beside(cmd.Context(), cfg, "store.migrate", "", map[string]any{"version": thisVersion().Version})
		},
	}
	f.flags(cmd, "store", "store-password")
	return cmd
}
