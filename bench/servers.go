//go:build linux

package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/dime-bus/dime/test/cluster"
)

// servers are a RabbitMQ of one node and a PostgreSQL as deploy/ sets them up.
type servers struct {
	mq    *cluster.RabbitMQ
	pg    *cluster.PostgresServer
	dir   string
	flags []string // of every process that works on them
}

// startPostgres starts a server with the shipped settings, less memory and the
// city's roles, in a folder that the server's own user may enter.
func startPostgres() (pg *cluster.PostgresServer, stop func() error, err error) {
	conf, err := os.ReadFile(filepath.Join("deploy", "postgres", "dime.conf"))
	if err != nil {
		return nil, nil, err
	}
	roles, err := os.ReadFile(filepath.Join("deploy", "postgres", "roles.sql"))
	if err != nil {
		return nil, nil, err
	}
	dir, err := os.MkdirTemp("", "dime-bench-")
	if err != nil {
		return nil, nil, err
	}
	clean := func() error { return os.RemoveAll(dir) }
	pg, err = cluster.StartPostgres(filepath.Join(dir, "pg"), cluster.PostgresOptions{Settings: string(conf) + "shared_buffers = 512MB\neffective_cache_size = 2GB\n"})
	if err != nil {
		return nil, nil, errors.Join(err, clean())
	}
	stop = func() error { return errors.Join(pg.Close(), clean()) }
	if err := pg.City(context.Background(), string(roles)); err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	return pg, stop, nil
}

// startServers also migrates, and writes the secrets that the flags refer to.
func startServers(e *env, name string) (s *servers, stop func(), err error) {
	s = &servers{dir: filepath.Join(e.dir, name)}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, nil, err
	}
	pg, stopPostgres, err := startPostgres()
	if err != nil {
		return nil, nil, err
	}
	s.pg = pg
	s.mq, err = cluster.StartRabbit(context.Background(), cluster.RabbitOptions{Nodes: 1})
	if err != nil {
		return nil, nil, errors.Join(err, stopPostgres())
	}
	stop = func() { _ = errors.Join(s.mq.Close(), stopPostgres()) }
	secret := func(name, text string) (string, error) {
		file := filepath.Join(s.dir, name)
		return "file:" + file, os.WriteFile(file, []byte(text), 0o600)
	}
	store, err1 := secret("store.secret", pg.Password())
	broker, err2 := secret("bus.secret", s.mq.Users["dime-worker"])
	master, err3 := secret("master.secret", base64.StdEncoding.EncodeToString([]byte("a key for measuring only, 32 byte")))
	u, err4 := url.Parse(pg.URL("dime"))
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		stop()
		return nil, nil, err
	}
	u.User = url.User("dime_owner")
	if out, err := exec.Command(e.dime, "migrate", "--store", u.String(), "--store-password", store).CombinedOutput(); err != nil {
		stop()
		return nil, nil, fmt.Errorf("migrating: %w: %s", err, out)
	}
	u.User = url.User("dime")
	s.flags = []string{"--store", u.String(), "--store-password", store, "--bus", "amqp://dime-worker@" + s.mq.Nodes[0].Addr + "/dime", "--bus-password", broker,
		"--master-key", master, "--log", "warn", "--roles", "worker,timers", "--base-url", "http://127.0.0.1:9"}
	return s, stop, nil
}

// work starts a worker.
func (s *servers) work(e *env, content, name string) (*process, error) {
	return startDime(e, content, filepath.Join(s.dir, name), s.flags...)
}
