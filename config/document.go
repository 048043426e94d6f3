package config

import (
	"time"

	"github.com/dime-bus/dime/internal/yamldoc"
)

// document is the file as it is written; nil fields take the default.
type document struct {
	Name      *string       `yaml:"name"`
	Listen    *string       `yaml:"listen"`
	Admin     *string       `yaml:"admin"`
	AdminOpen *bool         `yaml:"admin_open"`
	Soap      *string       `yaml:"soap"`
	SoapOpen  *bool         `yaml:"soap_open"`
	SoapTLS   *tlsDoc       `yaml:"soap_tls"`
	Data      *string       `yaml:"data"`
	Roles     []string      `yaml:"roles"`
	Store     *string       `yaml:"store"`
	StorePass *string       `yaml:"store_password"`
	Bus       []string      `yaml:"bus"`
	BusPass   *string       `yaml:"bus_password"`
	City      *string       `yaml:"city"`
	ReadyFile *string       `yaml:"ready_file"`
	BaseURL   *string       `yaml:"base_url"`
	MasterKey *string       `yaml:"master_key"`
	Log       *string       `yaml:"log"`
	Engine    *engineDoc    `yaml:"engine"`
	Limits    *limitsDoc    `yaml:"limits"`
	Tokens    *tokensDoc    `yaml:"tokens"`
	Documents *documentsDoc `yaml:"documents"`
	Audit     *auditDoc     `yaml:"audit"`
	Clients   *yamldoc.Node `yaml:"clients"`
	Brokers   *yamldoc.Node `yaml:"brokers"`
	Cfg       *yamldoc.Node `yaml:"cfg"` // the routes' configuration: checked with them
}

type engineDoc struct {
	Ladder       []time.Duration `yaml:"ladder"`
	FoundBySlack *time.Duration  `yaml:"found_by_slack"`
	UndoPatience *time.Duration  `yaml:"undo_patience"`
	Lease        *time.Duration  `yaml:"lease"`
	Renew        *time.Duration  `yaml:"renew"`
	Within       *time.Duration  `yaml:"within"`
	Patience     *time.Duration  `yaml:"patience"`
	Notice       *time.Duration  `yaml:"notice"`
	Drain        *time.Duration  `yaml:"drain"`
	Slots        *int            `yaml:"slots"`
	Background   *int            `yaml:"background_slots"`
	Sample       *int            `yaml:"timeline_sample"`
}

type limitsDoc struct {
	Body        *string `yaml:"body"`
	Upload      *string `yaml:"upload"`
	PerAddress  *int    `yaml:"connections_per_address"`
	Connections *int    `yaml:"connections"`

	HeaderWithin *time.Duration `yaml:"header_within"`
	BodyWithin   *time.Duration `yaml:"body_within"`
}

type tlsDoc struct {
	Certificate string `yaml:"certificate,required"`
	Key         string `yaml:"key,required"`
	ClientCA    string `yaml:"client_ca,required"`
}

type tokensDoc struct {
	Issuer string `yaml:"issuer,required"`
	JWKS   string `yaml:"jwks,required"`
}

type documentsDoc struct {
	Office *string   `yaml:"office"`
	Seals  []sealDoc `yaml:"seals"`
}

type auditDoc struct {
	Witness *witnessDoc `yaml:"witness"`
}

type witnessDoc struct {
	File  *string        `yaml:"file"`
	URL   *string        `yaml:"url"`
	Every *time.Duration `yaml:"every"`
}

type sealDoc struct {
	Key         string `yaml:"key,required"`
	Certificate string `yaml:"certificate,required"`
}

type clientDoc struct {
	Kind      string   `yaml:"kind"`
	Secret    string   `yaml:"secret,required"`
	Routes    []string `yaml:"routes"`
	Publish   []string `yaml:"publish"`
	Subscribe []string `yaml:"subscribe"`
}

type brokerDoc struct {
	URLs     []string `yaml:"urls,required"`
	Password *string  `yaml:"password"`
}
