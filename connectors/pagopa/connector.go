// Package pagopa connects the city to pagoPA: it opens debt positions at the
// platform, sends payers to Checkout, answers the node as the creditor's station,
// and takes receipts. README.md says which norms it rests on.
package pagopa

import (
	"context"
	"embed"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/httpclient"
	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/yamldoc"
)

// Field is what marks a file of config/connectors as this kind.
const Field = "pagopa"

// Connector is the creditor's side of pagoPA.
type Connector struct {
	desc     connectors.Description
	cfg      Config
	settings connectors.Settings
	client   *httpclient.Client
	host     connectors.Host
	clock    clock.Clock
	zone     *time.Location
	base     *url.URL
	city     bool // the platform is the virtual city's
	table    connectors.Table
	answers  answers

	mu  sync.Mutex
	key string // of the virtual city; "" until it registered us
}

// Describe implements connectors.Connector.
func (c *Connector) Describe() connectors.Description { return c.desc }

//go:embed schema/*.json
var schemas embed.FS

// answers are the shapes of what the platform answers.
type answers struct{ position *schema.Schema }

// New builds the connector of a file
//
//	pagopa:
//	  creditor: "00339370272"
//	  company: Comune di Venezia
//	  station: 00339370272_01
//	  segregation: "01"
//	  iban: IT60X0542811101000000123456
//	  category: 9/0301109AP/
//	base_url: https://api.platform.pagopa.it
//	headers: {Ocp-Apim-Subscription-Key: {secret: file:/run/secrets/pagopa}}
//
// Problems that are not warnings refuse it; it is nil then.
func New(src connectors.Spec) (*Connector, []yamldoc.Problem) {
	settings, ps := connectors.ReadSettings(src.Node, Field)
	cfg, cps := readConfig(src.Node.Get(Field))
	ps = append(ps, cps...)
	c := &Connector{cfg: cfg, settings: settings, client: src.Client, host: src.Host, clock: src.Host.Clock, zone: rome()}
	if c.clock == nil {
		c.clock = clock.Real{}
	}
	c.desc = connectors.Description{Name: src.Name, Summary: settings.About, Policy: settings.Policy.Or(connectors.DefaultPolicy())}
	if c.desc.Summary == "" {
		c.desc.Summary = "Payments through pagoPA: debt positions, Checkout, stamps and receipts."
	}
	var bp []yamldoc.Problem
	c.base, c.city, bp = base(src, settings)
	ps = append(ps, bp...)
	if src.Host.Table != nil {
		c.table = src.Host.Table(src.Name)
	} else {
		c.table = &memory{rows: map[string][]byte{}}
	}
	if err := c.describe(); err != nil {
		ps = append(ps, src.Node.Problem("connector", err.Error()))
	}
	for _, p := range ps {
		if !p.Warning {
			return nil, ps
		}
	}
	return c, ps
}

// base decides where the platform is called.
func base(src connectors.Spec, s connectors.Settings) (*url.URL, bool, []yamldoc.Problem) {
	raw, city := s.BaseURL, src.City != "" && src.City != connectors.CityOff && s.Emulate
	if city || (raw == "" || raw == "city:") && src.City != "" && src.City != connectors.CityOff {
		raw, city = strings.TrimSuffix(src.City, "/")+"/"+src.Name, true
	}
	u, err := url.Parse(raw)
	if raw == "" || raw == "city:" || err != nil || u.Host == "" {
		if src.City == "" { // lint: nothing is called
			return &url.URL{}, false, nil
		}
		return nil, false, []yamldoc.Problem{{Pos: s.BasePos, Rule: "value", Message: "`base_url` must say where the platform is, https://api.platform.pagopa.it: no virtual city plays it"}}
	}
	return u, city, nil
}

func rome() *time.Location {
	if l, err := time.LoadLocation("Europe/Rome"); err == nil {
		return l
	}
	return time.FixedZone("CET", 3600)
}

const (
	gpdBasis = "GPD debt-positions-service v1: the IUPD is unique in an organisation, " +
		"POST /organizations/{organizationfiscalcode}/debtpositions answers 409 for a known one and GET .../debtpositions/{iupd} tells whether it exists; the IUPD is derived from the call's key"
	invalidateBasis = "GPD debt-positions-service v1: POST .../debtpositions/{iupd}/invalidate answers 409 once the position is INVALID, which GET then shows"
)

func (c *Connector) describe() error {
	var failed error
	shape := func(name string) *schema.Schema {
		b, err := schemas.ReadFile("schema/" + name + ".json")
		if err == nil {
			var s *schema.Schema
			if s, err = schema.CompileBytes(c.desc.Name+"."+name, b); err == nil {
				return s
			}
		}
		if failed == nil {
			failed = fmt.Errorf("compiling the schema %s: %w", name, err)
		}
		return nil
	}
	c.answers.position = shape("gpd-position")
	position, byIUV := shape("position"), shape("by-iuv")
	noPosition := connectors.Fault{Name: "no_position", Kind: fault.NotFound, Summary: "No position has this IUV."}
	add := func(op connectors.Operation) {
		op.Policy, op.Checked = c.desc.Policy, false
		do := op.Do
		op.Do = func(ctx context.Context, call connectors.Call) (any, error) {
			if ctx.Err() != nil {
				return nil, &fault.Error{Kind: fault.Unavailable, Detail: "no time was left to send the request", Err: ctx.Err()}
			}
			v, err := do(ctx, call)
			if err != nil {
				return nil, fault.From(err)
			}
			return v, nil
		}
		c.desc.Operations = append(c.desc.Operations, &op)
	}
	add(connectors.Operation{
		Name: "open_position", Summary: "Opens a debt position and gives the payer's way to pay it. A stamp's document must exist: its digest is bought with it.",
		In: shape("open-position"), Out: position, Effect: connectors.Writes,
		Keyed: true, FoundBy: "position", Basis: gpdBasis, Do: c.openPosition,
	})
	add(connectors.Operation{
		Name: "close_position", Summary: "Takes an unpaid position back. One that is paid, or being paid, stays.",
		In: byIUV, Out: position, Effect: connectors.Writes, Keyed: true, Basis: invalidateBasis, Do: c.closePosition,
		Faults: []connectors.Fault{noPosition, {Name: "already_paid", Kind: fault.Conflict, Summary: "The position is paid; a receipt has come or will come."}},
	})
	add(connectors.Operation{
		Name: "position", Summary: "Tells the state of a position.",
		In: byIUV, Out: position, Effect: connectors.Safe, Do: c.position, Faults: []connectors.Fault{noPosition},
	})
	add(connectors.Operation{
		Name: "checkout", Summary: "Gives an open position a new page of Checkout, where the one that it had has expired.",
		In: byIUV, Out: shape("checkout"), Effect: connectors.Safe, Do: c.checkout,
	})
	add(connectors.Operation{
		Name: "receipt", Summary: "Reads the receipt of a paid position from the platform's archive.",
		In: byIUV, Out: shape("receipt"), Effect: connectors.Safe, Do: c.receipt,
		Faults: []connectors.Fault{{Name: "no_receipt", Kind: fault.NotFound, Summary: "The platform has no receipt of this IUV."}},
	})
	add(connectors.Operation{
		Name: "notice_pdf", Summary: "Prints the payment notice of an open position, for those who pay at a counter.",
		In: byIUV, Out: shape("notice-pdf"), Effect: connectors.Safe, Do: c.noticePDF, Faults: []connectors.Fault{noPosition},
	})
	return failed
}
