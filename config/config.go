// Package config reads config/dime.yaml, the environment and the flags into one
// value that is handed to everyone else (only cmd and this package read
// configuration). All mistakes are reported at once, each at its place.
package config

import (
	"time"

	"github.com/dime-bus/dime/internal/yamldoc"
)

// Config is the whole installation's configuration. Printing it never shows a
// secret: secrets are references until Secret.Resolve.
type Config struct {
	Name      string // the city's or body's name, for the first page
	Listen    string // host:port of the public face
	Admin     string // host:port of the admin face
	AdminOpen bool   // the admin face may listen beyond loopback
	Soap      string // host:port where national platforms call connectors
	SoapTLS   TLS    // of that face
	SoapOpen  bool   // it may listen beyond loopback without TLS of its own
	Data      string // folder of everything that is kept
	Roles     []string
	Store     Backend // PostgreSQL; zero is one file in Data
	Bus       Backend // RabbitMQ; zero is the store's own tables
	City      City
	BaseURL   string // public URL, where it is not http://LISTEN
	ReadyFile string
	MasterKey Secret // reference; "" lets `city: embedded` keep one beside Data
	Log       string // debug, info, warn, error

	Engine    Engine
	Limits    Limits
	Clients   []Client
	Brokers   []Broker
	Tokens    Tokens
	Documents Documents
	Audit     Audit
}

// Audit says whom the head of the audit is told, so that who cuts rows off is found.
type Audit struct {
	File  string        // a file outside the store, best on another disk; "" for none
	URL   string        // https; "" for none
	Every time.Duration // 1h
}

// The roles of a process (Config.Roles). A gateway serves requests, a worker
// carries out what rests, waits and comes as an event, and one with timers begins
// what the clock begins and deletes what has been kept long enough.
const (
	Gateway = "gateway"
	Worker  = "worker"
	Timers  = "timers"
)

// AllRoles lists them; it is the default.
func AllRoles() []string { return []string{Gateway, Worker, Timers} }

// Backend is a server that several processes share.
type Backend struct {
	URLs     []string // without passwords; for RabbitMQ one a node
	Password Secret   // resolved at each connecting
}

// Set says whether one is named.
func (b Backend) Set() bool { return len(b.URLs) > 0 }

// TLS is a face's own: files that are read anew when they change, so that
// certificates rotate without a restart. Zero is plain HTTP.
type TLS struct {
	Certificate, Key string // PEM files
	ClientCA         string // PEM file: who must show a certificate signed by one of these
}

// City says which virtual city the connectors talk to.
type City struct {
	Mode string // "embedded", "url" or "off"
	URL  string // with "url"
}

// Engine holds the slack times of semantics 3, 4, 7 and 11.
type Engine struct {
	Ladder       []time.Duration // deferral: 5s, 30s, 5m, 1h; the last one repeats
	FoundBySlack time.Duration   // after the give-up instant, before asking found_by: 5s
	UndoPatience time.Duration   // 72h
	Lease        time.Duration   // 10s
	Renew        time.Duration   // 3s
	Within       time.Duration   // default of a route's `within`: 10s
	Patience     time.Duration   // default of a route's `patience`: 24h
	Notice       time.Duration   // at SIGTERM, before it, of a gateway beside others: 5s
	Drain        time.Duration   // at SIGTERM: 20s
	Slots        int             // runs at once with a caller waiting
	Background   int             // runs at once without
	Sample       int             // of how many runs that changed nothing one timeline is stored: 1000; 0 for none
}

// Limits of the public face (trust.md, "HTTP edge").
type Limits struct {
	Body        int64
	Upload      int64
	PerAddress  int
	Connections int
	// Within bounds how long a sender may take, whatever it sends meanwhile.
	HeaderWithin time.Duration
	BodyWithin   time.Duration // the whole request
}

// Client is a program that may use the bus; what it does not name is denied.
type Client struct {
	Name                       string
	Kind                       string // module, partner
	Secret                     Secret
	Routes, Publish, Subscribe []string
	Pos                        yamldoc.Pos
}

// Broker is a RabbitMQ of others, from which routes are fed (`from: queue`).
type Broker struct {
	Name string
	Backend
	Pos yamldoc.Pos
}

// BrokerNames are those that a route may name.
func (c Config) BrokerNames() []string {
	var names []string
	for _, b := range c.Brokers {
		names = append(names, b.Name)
	}
	return names
}

// Tokens says whose caller tokens are accepted where there is no virtual city.
type Tokens struct {
	Issuer string
	JWKS   string // https URL
}

// Documents says who certifies and with which seals.
type Documents struct {
	Office string // of the city that issues, as the documents name it
	// Seals are PKCS #8 keys with their certificates, in PEM; of the valid ones the
	// newest seals. None: the virtual city's own, and without it no documents.
	Seals []Seal
}

// Seal is one credential of the electronic seal.
type Seal struct{ Key, Certificate Secret }

// Default is what an installation gets that says nothing.
func Default() Config {
	return Config{
		Name: "Dime", Listen: "127.0.0.1:8080", Admin: "127.0.0.1:8081", Soap: "127.0.0.1:8083", Data: "data", Roles: AllRoles(),
		City: City{Mode: "off"}, Log: "info",
		Engine: Engine{
			Ladder:       []time.Duration{5 * time.Second, 30 * time.Second, 5 * time.Minute, time.Hour},
			FoundBySlack: 5 * time.Second, UndoPatience: 72 * time.Hour, Lease: 10 * time.Second, Renew: 3 * time.Second,
			Within: 10 * time.Second, Patience: 24 * time.Hour, Notice: 5 * time.Second, Drain: 20 * time.Second, Slots: 256, Background: 64, Sample: 1000,
		},
		Limits:    Limits{Body: 1 << 20, Upload: 20 << 20, PerAddress: 1024, Connections: 16384, HeaderWithin: 5 * time.Second, BodyWithin: 30 * time.Second},
		Documents: Documents{Office: "Servizi demografici"},
		Audit:     Audit{Every: time.Hour},
	}
}
