package main

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/dime-bus/dime/config"
	"github.com/dime-bus/dime/internal/bus/amqp"
	"github.com/dime-bus/dime/internal/doctor"
	"github.com/dime-bus/dime/internal/store/postgres"
	"github.com/dime-bus/dime/test/cluster"
)

func found(fs []doctor.Finding, check string, level doctor.Level, word string) bool {
	return slices.ContainsFunc(fs, func(f doctor.Finding) bool {
		return f.Check == check && f.Level == level && strings.Contains(f.What+" "+f.Do, word)
	})
}

// Over a private PostgreSQL and RabbitMQ: what is not there, what is not made yet,
// and what is well, each said with what to do.
func TestDoctorLooksAtWhatProcessesShare(t *testing.T) {
	ctx := context.Background()
	base := cluster.PostgresFor(t, cluster.PostgresOptions{Unsafe: true})
	cfg := config.Default()
	cfg.Store.URLs = []string{base.URL("postgres")}
	if fs := sharedFindings(ctx, cfg, nil); !found(fs, "store", doctor.Problem, "dime migrate") {
		t.Errorf("before its migration: %+v", fs)
	}
	if err := postgres.Migrate(ctx, cfg.Store.URLs[0], nil); err != nil {
		t.Fatal(err)
	}
	fs := sharedFindings(ctx, cfg, nil)
	for check, word := range map[string]string{"store": "may read and write", "clock": "agrees", "timers": "no run is late", "outbox": "none for long", "versions": "no live run"} {
		if !found(fs, check, doctor.OK, word) {
			t.Errorf("%s does not say %q: %+v", check, word, fs)
		}
	}
	if !found(fs, "store", doctor.Problem, "synchronous_commit and fsync") { // the test's server runs without fsync
		t.Errorf("fsync is off, and nobody says so: %+v", fs)
	}

	r := cluster.OwnRabbit(t, cluster.RabbitOptions{Nodes: 1})
	cfg.Bus.URLs = r.URLs("dime-admin")
	if fs := brokerFindings(ctx, cfg); !found(fs, "broker", doctor.OK, "lets this user in") {
		t.Errorf("a broker that is well: %+v", fs)
	}
	if ns := amqp.Look(ctx, cfg.Bus.URLs, "dime.elsewhere"); len(ns) != 1 || !ns[0].Missing || ns[0].Err != nil || ns[0].Version == "" {
		t.Errorf("a broker without the exchanges: %+v", ns)
	}
	u, err := url.Parse(cfg.Bus.URLs[0])
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("nobody", "hidden")
	cfg.Bus.URLs = []string{u.String(), "amqp://dime:hidden@127.0.0.1:1/", "amqp://dime:hidden@%zz"}
	fs = brokerFindings(ctx, cfg)
	if len(fs) != 3 || slices.ContainsFunc(fs, func(f doctor.Finding) bool {
		return f.Level != doctor.Problem || f.Do == "" || strings.Contains(f.What, "hidden")
	}) {
		t.Errorf("a stranger, a closed port and no URL: %+v", fs)
	}
}
