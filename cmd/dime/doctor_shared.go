package main

import (
	"context"
	"time"

	"github.com/dime-bus/dime/config"
	"github.com/dime-bus/dime/internal/bus/amqp"
	"github.com/dime-bus/dime/internal/doctor"
	"github.com/dime-bus/dime/internal/store/postgres"
	"github.com/dime-bus/dime/internal/store/sqlite"
	"github.com/dime-bus/dime/pipeline/language"
)

// lookWithin bounds a look at each far side.
const lookWithin = 30 * time.Second

// brokerFindings connect once to each node of the broker.
func brokerFindings(ctx context.Context, cfg config.Config) []doctor.Finding {
	const check = "broker"
	if !cfg.Bus.Set() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	urls, err := nodes(cfg.Bus)(ctx)
	if err != nil {
		return []doctor.Finding{doctor.Bad(check, "put the secret where its reference points", "%v", err)}
	}
	var out []doctor.Finding
	versions := map[string]bool{}
	for _, n := range amqp.Look(ctx, urls, "") {
		switch {
		case n.Err != nil:
			out = append(out, doctor.Bad(check, "see whether RabbitMQ runs there, and whether user, password, virtual host and permissions are those of deploy/rabbitmq", "%s: %v", n.Address, n.Err))
			continue
		case n.Missing:
			out = append(out, doctor.Warn(check, "load deploy/rabbitmq/definitions.json, or start a process whose user may declare", "%s: RabbitMQ %s answers, and has no exchanges of Dime yet", n.Address, n.Version))
		default:
			out = append(out, doctor.Fine(check, "%s: RabbitMQ %s answers and lets this user in", n.Address, n.Version))
		}
		versions[n.Version] = true
	}
	if len(versions) > 1 {
		out = append(out, doctor.Warn(check, "bring all nodes to one version", "the nodes run %d versions of RabbitMQ", len(versions)))
	}
	return out
}

// sharedFindings look into the database while processes are at work on it.
func sharedFindings(ctx context.Context, cfg config.Config, city *language.City) []doctor.Finding {
	const check = "store"
	ctx, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	at := time.Now()
	f, err := postgres.Look(ctx, cfg.Store.URLs[0], passwordOf(cfg.Store))
	if err != nil {
		return []doctor.Finding{doctor.Bad(check, "see whether PostgreSQL answers there and lets this role in; dime migrate brings an old schema up to date", "%v", err)}
	}
	out := []doctor.Finding{
		doctor.Fine(check, "PostgreSQL %s, schema %d, %d live runs, %d processes at work, %d MiB", f.Server, f.Schema, f.Live, f.Workers, f.Bytes>>20),
		doctor.Clock("the store", at.Add(-f.Ahead), at),
	}
	if !f.Durable {
		out = append(out, doctor.Bad(check, "turn synchronous_commit and fsync on", "a power cut may lose what was accepted"))
	}
	if f.Denied > 0 {
		out = append(out, doctor.Bad(check, "run deploy/postgres/roles.sql again", "this role may not read and write %d tables", f.Denied))
	} else {
		out = append(out, doctor.Fine(check, "this role may read and write all tables"))
	}
	if f.Late > 0 {
		out = append(out, doctor.Warn("timers", "start workers, or see the log of those at work and whether background_slots are all in use", "%d runs are due, the oldest since %s", f.Late, f.LateBy.Round(time.Second)))
	} else {
		out = append(out, doctor.Fine("timers", "no run is late"))
	}
	if f.Stuck > 0 {
		out = append(out, doctor.Bad("outbox", "see the workers' logs for why the bus refuses them", "%d messages were tried three times and are not published", f.Stuck))
	} else {
		out = append(out, doctor.Fine("outbox", "%d messages wait to be published, none for long", f.Outbox))
	}
	if n := f.States["parked"] + f.States["failed"]; n > 0 {
		out = append(out, doctor.Warn("dead letters", "dime runs ls --state parked,failed", "%d runs wait for a person", n))
	}
	pinned := make([]sqlite.Pinned, len(f.Versions))
	for i, v := range f.Versions {
		pinned[i] = sqlite.Pinned(v)
	}
	return append(out, versionFindings(cfg, city, pinned, func(key []byte, digest string) (map[string][]byte, error) {
		return postgres.Sources(ctx, cfg.Store.URLs[0], passwordOf(cfg.Store), key, digest)
	})...)
}
