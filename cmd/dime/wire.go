package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dime-bus/dime/cmd/dime/trail"
	"github.com/dime-bus/dime/config"
	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/activation"
	"github.com/dime-bus/dime/internal/bus"
	"github.com/dime-bus/dime/internal/bus/amqp"
	"github.com/dime-bus/dime/internal/bus/client"
	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/document/archive"
	"github.com/dime-bus/dime/internal/gateway"
	"github.com/dime-bus/dime/internal/httpclient"
	"github.com/dime-bus/dime/internal/identity"
	"github.com/dime-bus/dime/internal/members"
	"github.com/dime-bus/dime/internal/mutualtls"
	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/internal/store/seal"
	"github.com/dime-bus/dime/internal/telemetry"
	"github.com/dime-bus/dime/internal/testhook"
	"github.com/dime-bus/dime/internal/yamldoc"
	"github.com/dime-bus/dime/pipeline/language"
	"github.com/dime-bus/dime/pipeline/run"
	"github.com/dime-bus/dime/pipeline/run/intake"
)

// server is everything that `dime serve` runs, wired by hand: this file is the
// only place where the parts of the house meet.
type server struct {
	cfg     config.Config
	content *content
	clients *identity.Clients
	hub     *client.Hub // wakes subscribers of the clients in this process
	log     *slog.Logger
	metrics *telemetry.Metrics

	store   store.Store
	worker  string           // this process's name
	opened  string           // the id of its master key
	members *members.Members // nil where there is but this process
	bus     bus.Bus
	broker  *amqp.Bus   // the same, where it is RabbitMQ
	city    *cityServer // nil unless embedded
	client  *httpclient.Client
	guards  *guards
	engine  *run.Engine
	intake  *intake.Intake // nil unless this process is a worker
	gateway *gateway.Gateway
	trail   *trail.Trail

	public, admin, soap net.Listener
	publicServer        *gateway.Server
	adminServer         *gateway.Server
	soapServer          *gateway.Server

	numbers connectors.Numbers
	outside *outside

	zone      *time.Location   // the city's
	documents *archive.Archive // nil where none are issued

	handed map[string]net.Listener // sockets of the service manager, by face

	reloading sync.Mutex
	inForce   atomic.Pointer[gateway.City]
	ready     atomic.Bool
	closers   []func() error
}

// refusedError is content that was not put in force.
type refusedError struct{ problems []yamldoc.Problem }

func (e refusedError) Error() string {
	return fmt.Sprintf("%d mistakes in the content", len(e.problems))
}

func newLog(w io.Writer, level string) *slog.Logger {
	l, err := telemetry.Level(level)
	if err != nil {
		l = slog.LevelInfo // config.Load has refused any other word
	}
	return telemetry.Log(w, l)
}

// newServer opens and connects everything, and checks and loads the content; no
// request is taken yet. On an error what was opened so far is in the returned
// server and must be closed.
func newServer(ctx context.Context, c *content, cfg config.Config, o serveOptions, log *slog.Logger) (*server, error) {
	s := &server{cfg: cfg, content: c, log: log, hub: client.NewHub()}
	v := thisVersion()
	s.metrics = telemetry.New(telemetry.Version{Version: v.Version, Commit: v.Revision})
	if err := os.MkdirAll(cfg.Data, 0o700); err != nil {
		return s, fmt.Errorf("making the data folder: %w", err)
	}
	key, err := masterKey(cfg, log)
	if err != nil {
		return s, err
	}
	if s.opened, err = seal.MasterID(key); err != nil {
		return s, err
	}
	erased, err := erasuresOf(cfg)
	if err != nil {
		return s, err
	}
	s.closers = append(s.closers, erased.Close)
	if err := s.openStore(ctx, key, erased); err != nil {
		return s, err
	}
	if s.trail, err = trail.New(cfg, s.store, s.has(config.Timers), log, s.worker, v.Version, v.Revision); err != nil {
		return s, err
	}
	if err := s.openBus(); err != nil {
		return s, err
	}

	if s.handed, err = activation.Sockets(os.Getenv, os.Getpid(), "listen", "admin", "soap"); err != nil {
		return s, err
	}
	if s.admin, err = s.listen("admin", cfg.Admin); err != nil {
		return s, err
	}
	s.closers = append(s.closers, ignoreClosed(s.admin))

	soap, err := s.listenOutside()
	if err != nil {
		return s, err
	}
	s.outside = newOutside(s.publishEvent, log)

	cityURL := connectors.CityOff
	switch cfg.City.Mode {
	case "embedded":
		nobody := map[string]connectors.Connector{} // load says whom it plays
		if s.city, err = newCityServer(c, nobody, cfg.Data, cityAddr(cfg, o), log); err != nil {
			return s, err
		}
		s.closers = append(s.closers, s.city.close)
		cityURL = s.city.url()
	case "url":
		cityURL = cfg.City.URL
	}
	tokens, err := s.tokens(cityURL)
	if err != nil {
		return s, err
	}
	if s.clients, err = s.credentials(); err != nil {
		return s, err
	}

	s.client = httpclient.New(httpclient.Config{})
	s.guards = newGuards(s.breaker)
	s.guards.share(s.processes()) // before anything is called
	probe, err := testhook.Probe(os.Getenv)
	if err != nil {
		return s, err
	}
	if probe != nil {
		log.Warn("a test watches or ends this process")
	}
	s.engine, err = run.New(run.Config{
		Store: s.store, Bus: engineBus{s.bus, s.hub}, Log: log, Worker: s.worker,
		Shared: s.shared(), NoWork: !s.has(config.Worker), NoSchedule: !s.has(config.Timers), Processes: s.processes,
		BaseURL: func() string { return s.urls().Public },
		Ladder:  cfg.Engine.Ladder, FoundBySlack: cfg.Engine.FoundBySlack, UndoPatience: cfg.Engine.UndoPatience,
		LeaseFor: cfg.Engine.Lease, RenewEvery: cfg.Engine.Renew,
		SyncSlots: cfg.Engine.Slots, BackgroundSlots: cfg.Engine.Background,
		Observer: s.metrics, Guards: s.guards.of, Mandates: s.mandates, Timeline: orNone(o.timeline), TimelineSample: cfg.Engine.Sample,
		Recompile:      s.recompile,
		AllowRelabel:   cfg.City.Mode == "embedded",
		UnsafeNoIntent: testhook.NoIntent(os.Getenv),
		Probe:          probe,
	})
	if err != nil {
		return s, err
	}
	if s.has(config.Worker) {
		others := newBrokers(cfg, log)
		s.closers = append(s.closers, others.close)
		s.intake = intake.New(s.engine, others, clock.Real{}, log, cfg.Limits.Body)
	}
	if s.zone, err = time.LoadLocation("Europe/Rome"); err != nil { // embedded by time/tzdata
		return s, err
	}
	if s.documents, err = s.archive(); err != nil {
		return s, err
	}
	pages, err := s.documentPages()
	if err != nil {
		return s, err
	}
	extra := map[string]http.Handler{"GET /readyz": gateway.Readiness(s.isReady)}
	maps.Copy(extra, pages)
	s.gateway, err = gateway.New(gateway.Config{
		Engine: publicEngine{s.engine}, Blobs: s.store, Tokens: tokens, Clients: s.clients,
		Clock: clock.Real{}, Log: log, Observer: s.metrics,
		Limits: gateway.Limits{Body: cfg.Limits.Body, Upload: cfg.Limits.Upload, PerAddress: cfg.Limits.PerAddress, Connections: cfg.Limits.Connections},
		About:  gateway.About{Name: cfg.Name, Version: v.Version, Commit: v.Revision, City: s.urls().City, Public: s.urls().Public, Started: time.Now()},
		Extra:  extra,
	})
	if err != nil {
		return s, err
	}
	admin, err := gateway.NewAdmin(gateway.AdminConfig{
		Runs: adminEngine{s.engine}, City: func() gateway.City { return *s.inForce.Load() },
		Ready: s.isReady, Metrics: s.metrics.Handler(), Log: log, Open: cfg.AdminOpen, Status: s.status, Withdraw: s.withdraw,
		Unmatched: s.unmatched, Settle: s.settleEvent, Settled: s.settled,
		Tasks: s.tasks(), Audit: s.trail.Act,
	})
	if err != nil {
		return s, err
	}
	if err := s.gauges(); err != nil {
		return s, err
	}
	if s.public != nil {
		limits := gateway.Limits{PerAddress: cfg.Limits.PerAddress, Connections: cfg.Limits.Connections,
			HeaderWithin: cfg.Limits.HeaderWithin, BodyWithin: cfg.Limits.BodyWithin}
		s.publicServer = gateway.NewServer(s.public, s.gateway, limits, log)
		s.soapServer = gateway.NewServer(soap, s.outside, limits, log)
	}
	s.adminServer = gateway.NewServer(s.admin, admin, gateway.Limits{HeaderWithin: cfg.Limits.HeaderWithin, BodyWithin: cfg.Limits.BodyWithin}, log)
	err = s.load(nil)
	return s, errors.Join(err, s.trail.Reloaded(s.content, tops(), err))
}

// listenOutside opens what the outside calls, where this process is a gateway; it
// gives the soap face's listener as it is to be served.
func (s *server) listenOutside() (soap net.Listener, err error) {
	if !s.has(config.Gateway) {
		return nil, nil
	}
	if s.public, err = s.listen("listen", s.cfg.Listen); err != nil {
		return nil, err
	}
	s.closers = append(s.closers, ignoreClosed(s.public))
	if s.soap, err = s.listen("soap", soapAddr(s.cfg)); err != nil {
		return nil, err
	}
	s.closers = append(s.closers, ignoreClosed(s.soap))
	if s.cfg.SoapTLS == (config.TLS{}) {
		return s.soap, nil
	}
	return mutualtls.Listen(s.soap, mutualtls.Files(s.cfg.SoapTLS))
}

// faces are the servers of this process.
func (s *server) faces() map[string]*gateway.Server {
	all := map[string]*gateway.Server{"public": s.publicServer, "soap": s.soapServer, "admin": s.adminServer}
	maps.DeleteFunc(all, func(_ string, srv *gateway.Server) bool { return srv == nil })
	return all
}

// ignoreClosed closes a listener that its server may have closed before.
func ignoreClosed(l net.Listener) func() error {
	return func() error {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	}
}

// cityAddr is where the embedded city listens: beside the public face, on a free
// port if that takes one.
func cityAddr(cfg config.Config, o serveOptions) string {
	if o.cityListen != "" {
		return o.cityListen
	}
	if _, port, err := net.SplitHostPort(cfg.Listen); err == nil && port == "0" {
		return "127.0.0.1:0"
	}
	return "127.0.0.1:8082"
}

// tokens says whose caller tokens are good: the virtual city's, or those of the
// configured issuer; none if there is neither.
func (s *server) tokens(cityURL string) (*identity.Verifier, error) {
	switch {
	case s.city != nil:
		keys, err := identity.StaticKeys(s.city.signer.JWKS())
		if err != nil {
			return nil, err
		}
		return identity.NewVerifier(keys, identity.CityIssuer, identity.CityTokenLife, clock.Real{}), nil
	case s.cfg.City.Mode == "url":
		keys := identity.RemoteKeys(cityURL+identity.JWKSPath, keysClient(), clock.Real{})
		return identity.NewVerifier(keys, identity.CityIssuer, identity.CityTokenLife, clock.Real{}), nil
	case s.cfg.Tokens.JWKS != "":
		keys := identity.RemoteKeys(s.cfg.Tokens.JWKS, keysClient(), clock.Real{})
		return identity.NewVerifier(keys, s.cfg.Tokens.Issuer, 0, clock.Real{}), nil
	}
	return nil, nil
}

func (s *server) credentials() (*identity.Clients, error) {
	var all []identity.Credential
	for _, c := range s.cfg.Clients {
		secret, err := c.Secret.Resolve()
		if err != nil {
			return nil, fmt.Errorf("reading the secret of client %q: %w", c.Name, err)
		}
		all = append(all, identity.Credential{Name: c.Name, Kind: c.Kind, Secret: secret,
			Rights: identity.Rights{Routes: c.Routes, Publish: c.Publish, Subscribe: c.Subscribe}})
	}
	return identity.NewClients(all)
}

// load reads the content and puts it in force, or changes nothing.
func (s *server) load(prev *language.City) error {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	url := connectors.CityOff
	if s.city != nil {
		url = s.city.url()
	} else if s.cfg.City.Mode == "url" {
		url = s.cfg.City.URL
	}
	l := s.content.loadFor(prev, reach{client: s.client, city: url, host: s.host(), within: s.cfg.Engine.Within, patience: s.cfg.Engine.Patience, brokers: s.cfg.BrokerNames()})
	if bad := refusals(l.problems); len(bad) > 0 {
		return refusedError{bad}
	}
	for _, p := range l.problems {
		level := slog.LevelWarn
		if s.content.shipped(p.File) {
			level = slog.LevelInfo // nothing that this city's people wrote
		}
		s.log.Log(context.Background(), level, "content", "problem", p.String())
	}
	public := publicCity(l.city)
	receivers, err := s.outside.handlers(l.connectors)
	if err != nil {
		return err
	}
	if s.city != nil {
		if bad := refusals(s.city.reload(l.connectors)); len(bad) > 0 {
			return refusedError{bad}
		}
	}
	s.guards.add(l.connectors)
	if err := s.pauses().Load(context.Background()); err != nil {
		return err
	}
	if err := s.keepLog(l.city); err != nil {
		if prev == nil {
			return err
		}
		s.log.Error("events of new types are not kept for programs until the next reload", "error", err)
	}
	if err := s.engine.Swap(l.city); err != nil {
		return err
	}
	if err := s.gateway.Swap(public); err != nil {
		return errors.Join(err, s.engine.Swap(prev))
	}
	if s.ready.Load() {
		s.takeIn(l.city)
	}
	s.outside.swap(l.connectors, receivers)
	s.inForce.Store(&public)
	var versions []telemetry.RouteVersion
	for _, r := range s.engine.Routes() {
		versions = append(versions, telemetry.RouteVersion{Route: r.Route.Name, Version: r.Route.Label, Digest: r.Digest})
	}
	s.metrics.Routes(versions)
	return nil
}

// recompile makes a run's version again from what the store kept, with the
// operations that are there now.
func (s *server) recompile(src language.Source, called func(string) (language.Source, error)) (*language.Route, error) {
	city := s.engine.City()
	return language.Recompile(src, language.Options{Connectors: city.Connectors, City: city, Version: called,
		Within: s.cfg.Engine.Within, Patience: s.cfg.Engine.Patience})
}

// start opens the faces and the engine; failed receives what ends them.
func (s *server) start(ctx context.Context) (failed <-chan error, err error) {
	errs := make(chan error, 5)
	if s.city != nil {
		s.city.serve(errs)
	}
	keys, err := s.rotation()
	if err == nil {
		err = keys.SayOpened(ctx)
	}
	if err != nil {
		return nil, err
	}
	if err := s.engine.Start(ctx); err != nil {
		return nil, err
	}
	if s.publicServer != nil {
		go func() { report(errs, "public face", s.publicServer.Serve()) }()
		go func() { report(errs, "soap face", s.soapServer.Serve()) }()
	}
	go func() { report(errs, "admin face", s.adminServer.Serve()) }()
	if err := s.watch(ctx); err != nil {
		return nil, err
	}
	s.ready.Store(true)
	s.reloading.Lock()
	s.takeIn(s.engine.City())
	s.reloading.Unlock()
	if err := s.answerPrograms(ctx); err != nil {
		return nil, err
	}
	if s.public != nil {
		s.outside.start(ctx) // beside the face where the outside answers
	}
	go s.pauses().Watch(ctx)
	if s.has(config.Timers) {
		desk, err := s.desk()
		if err != nil {
			return nil, err
		}
		go desk.Work(ctx)
		go keys.Run(ctx)
		go s.retain(ctx)
		go s.trail.Run(ctx)
	}
	if s.members != nil {
		go s.members.Run(ctx)
		go s.divide(ctx)
	}
	return errs, nil
}

// takeIn feeds the routes of a city from the brokers of others.
func (s *server) takeIn(c *language.City) {
	if s.intake != nil {
		s.intake.Swap(c)
	}
}

// report passes on why a server ended, unless it was asked to.
func report(errs chan<- error, what string, err error) {
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		errs <- fmt.Errorf("serving the %s: %w", what, err)
	}
}

func (s *server) isReady(context.Context) error {
	if !s.ready.Load() {
		return errors.New("starting or stopping")
	}
	if err := s.engine.Failing(); err != nil {
		return fmt.Errorf("the journal fails: %w", err)
	}
	return nil
}

// drain is SIGTERM: not ready, no new runs, those with a caller finish, the
// others hand back (semantics 11.4).
func (s *server) drain() {
	s.ready.Store(false)
	leaves := s.public != nil && s.shared() // others take what comes
	if leaves {
		s.giveNotice()
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.Engine.Drain)
	defer cancel()
	if leaves || s.handed["listen"] != nil {
		s.handOver(ctx)
	}
	if s.intake != nil {
		s.intake.Stop()
	}
	s.engine.Drain(ctx)
	for face, srv := range s.faces() {
		if err := srv.Shutdown(ctx); err != nil {
			s.log.Warn("closing a face", "face", face, "error", err)
		}
	}
}

// giveNotice goes on serving until whoever sends requests here has seen that this
// process is no longer ready, and takes them elsewhere.
func (s *server) giveNotice() {
	for face, srv := range s.faces() {
		if face != "admin" {
			srv.Farewell()
		}
	}
	time.Sleep(s.cfg.Engine.Notice)
}

// retireWithin is how long connections that are kept alive may bring one more
// request before they are closed.
const retireWithin = time.Second

// handOver leaves what comes from here on to others, or to the next life of this
// process in the queues of its sockets; what has come is answered in full.
func (s *server) handOver(ctx context.Context) {
	var all sync.WaitGroup
	for face, srv := range s.faces() {
		if face == "admin" {
			continue // it shows how the rest goes
		}
		all.Add(1)
		go func() {
			defer all.Done()
			srv.Retire(ctx, retireWithin)
			if err := srv.Shutdown(ctx); err != nil {
				s.log.Warn("closing a face", "face", face, "err", err)
			}
		}()
	}
	all.Wait()
}

// close gives everything back, last opened first.
func (s *server) close() error {
	s.ready.Store(false)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for _, srv := range s.faces() {
		_ = srv.Shutdown(ctx) // after drain this has nothing left to say
	}
	if s.outside != nil {
		s.outside.end()
	}
	if s.intake != nil {
		s.intake.Stop()
	}
	if s.engine != nil {
		s.engine.Stop()
	}
	if s.intake != nil {
		s.intake.Wait()
	}
	var errs []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = append(errs, s.closers[i]())
	}
	return errors.Join(errs...)
}

func (s *server) urls() urls {
	u := urls{Public: s.cfg.BaseURL, Admin: httpURL(s.admin)}
	if s.soap != nil {
		u.Soap = httpURL(s.soap)
		if s.cfg.SoapTLS != (config.TLS{}) {
			u.Soap = "https" + strings.TrimPrefix(u.Soap, "http")
		}
	}
	if u.Public == "" && s.public != nil {
		u.Public = httpURL(s.public)
	}
	switch {
	case s.city != nil:
		u.City = s.city.url()
	case s.cfg.City.Mode == "url":
		u.City = s.cfg.City.URL
	}
	return u
}

// orNone says "none" in the engine's way: its zero is the default.
func orNone(n int) int {
	if n <= 0 {
		return -1
	}
	return n
}
