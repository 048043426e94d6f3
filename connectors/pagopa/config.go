package pagopa

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/taxcode"
	"github.com/dime-bus/dime/internal/yamldoc"
)

// Config is what stands under `pagopa:` in the connector's file.
type Config struct {
	Creditor    string // codice fiscale of the ente creditore, 11 digits
	Company     string // as payers read it
	Office      string
	Broker      string // of the station; the creditor itself where it has no intermediary
	Station     string
	Segregation string // two digits that the platform gave to the station
	IBAN        string // where what is not a stamp and names no account of its own goes
	CBILL       string // the code under which banks list the creditor; "" prints none
	StampPrice  int    // cents
	StampTax    string // transferCategory of a stamp (tassonomia dei servizi di incasso)
	Category    string // of what names none
	DueDays     int    // until a position that names no date
	ReturnURL   string // where Checkout sends payers back; "" is the public face
	Services    []service
	signers     []connectors.Secret // roots of those who sign stamps; none: any certificate
}

// service is what a counter can ask us to open without a notice (SANP,
// paDemandPaymentNotice).
type service struct {
	ID          string
	Subject     string // idSoggettoServizio
	Description string
	Amount      int
	Category    string
}

var (
	segregationForm = regexp.MustCompile(`^(0[0-9]|[1-3][0-9]|4[0-9])$`) // SACI 3.2: 00 to 49
	ibanForm        = regexp.MustCompile(`^[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}$`)
	serviceForm     = regexp.MustCompile(`^[0-9A-Za-z]{5}$`)
)

func readConfig(n *yamldoc.Node) (Config, []yamldoc.Problem) {
	var f struct {
		Creditor     string   `yaml:"creditor,required"`
		Company      string   `yaml:"company,required"`
		Office       string   `yaml:"office"`
		Broker       string   `yaml:"broker"`
		Station      string   `yaml:"station,required"`
		Segregation  string   `yaml:"segregation,required"`
		IBAN         string   `yaml:"iban,required"`
		CBILL        string   `yaml:"cbill"`
		StampPrice   int      `yaml:"stamp_price"`
		StampTax     string   `yaml:"stamp_category"`
		Category     string   `yaml:"category,required"`
		DueDays      int      `yaml:"due_days"`
		ReturnURL    string   `yaml:"return_url"`
		StampSigners []string `yaml:"stamp_signers"`
		Services     []struct {
			ID          string `yaml:"id,required"`
			Subject     string `yaml:"subject,required"`
			Description string `yaml:"description,required"`
			Amount      int    `yaml:"amount,required"`
			Category    string `yaml:"category"`
		} `yaml:"services"`
	}
	if n.Kind != yamldoc.Map {
		return Config{}, []yamldoc.Problem{n.Problem("type", "`pagopa` is a map of the creditor's data, not "+n.What())}
	}
	ps := n.Decode(&f)
	c := Config{
		Creditor: f.Creditor, Company: f.Company, Office: f.Office, Broker: f.Broker, Station: f.Station, Segregation: f.Segregation,
		IBAN: f.IBAN, CBILL: f.CBILL, StampPrice: f.StampPrice, StampTax: f.StampTax, Category: f.Category, DueDays: f.DueDays, ReturnURL: f.ReturnURL,
	}
	for _, d := range []struct {
		into *string
		def  string
	}{{&c.Broker, c.Creditor}, {&c.StampTax, "9/0301116TS/"}} {
		if *d.into == "" {
			*d.into = d.def
		}
	}
	if c.StampPrice == 0 {
		c.StampPrice = 1600 // D.P.R. 642/1972 art. 3 and 4, as raised by D.L. 43/2013
	}
	if c.DueDays == 0 {
		c.DueDays = 30
	}
	check := func(at *yamldoc.Node, ok bool, format string, args ...any) {
		if !ok && len(ps) == 0 || !ok && at != nil {
			if at == nil {
				at = n
			}
			ps = append(ps, at.Problem("value", fmt.Sprintf(format, args...)))
		}
	}
	if len(ps) > 0 {
		return c, ps
	}
	check(n.Get("creditor"), len(c.Creditor) == 11 && taxcode.Valid(c.Creditor), "`creditor` is the ente's codice fiscale, 11 digits with a check digit")
	check(n.Get("broker"), len(c.Broker) == 11 && digits(c.Broker), "`broker` is a codice fiscale of 11 digits")
	check(n.Get("segregation"), segregationForm.MatchString(c.Segregation), "`segregation` is two digits from 00 to 49, quoted")
	check(n.Get("iban"), ibanForm.MatchString(c.IBAN), "`iban` is an IBAN without blanks")
	check(n.Get("station"), text(1, 35)(c.Station), "`station` has 35 characters at most")
	check(n.Get("company"), text(1, 140)(c.Company), "`company` has 140 characters at most")
	check(n.Get("office"), text(0, 140)(c.Office), "`office` has 140 characters at most")
	check(n.Get("category"), text(1, 140)(c.Category), "`category` has 140 characters at most")
	check(n.Get("stamp_category"), text(1, 140)(c.StampTax), "`stamp_category` has 140 characters at most")
	check(n.Get("stamp_price"), c.StampPrice > 0 && c.StampPrice <= maxCents, "`stamp_price` is the price of a stamp in cents")
	check(n.Get("due_days"), c.DueDays > 0 && c.DueDays <= 3650, "`due_days` is 1 to 3650")
	if c.ReturnURL != "" {
		u, err := url.Parse(c.ReturnURL)
		check(n.Get("return_url"), err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http"), "`return_url` is an http or https URL")
	}
	list := n.Get("services")
	for i, s := range f.Services {
		check(list.Items[i], serviceForm.MatchString(s.ID) && serviceForm.MatchString(s.Subject), "`id` and `subject` of a service have five letters or digits each")
		check(list.Items[i], s.Amount > 0 && s.Amount <= maxCents, "`amount` of a service is its price in cents")
		check(list.Items[i], text(1, 140)(s.Description), "`description` of a service has 140 characters at most")
		if s.Category == "" {
			s.Category = c.Category
		}
		c.Services = append(c.Services, service{s.ID, s.Subject, s.Description, s.Amount, s.Category})
	}
	for i, ref := range f.StampSigners {
		s, err := connectors.NewSecret(ref)
		check(n.Get("stamp_signers").Items[i], err == nil, "%v", err)
		c.signers = append(c.signers, s)
	}
	return c, ps
}

// maxCents is stAmount's upper bound.
const maxCents = 99_999_999_999

// roots reads the certificates that stamps' signers lead to, anew each time: a
// file that is exchanged counts at once. nil where none are configured.
func (c Config) roots() (*x509.CertPool, error) {
	if len(c.signers) == 0 {
		return nil, nil
	}
	pool := x509.NewCertPool()
	for _, s := range c.signers {
		pem, err := s.Resolve()
		if err != nil {
			return nil, err
		}
		if !pool.AppendCertsFromPEM([]byte(pem)) {
			return nil, fmt.Errorf("reading a root of stamp_signers: the file holds no certificate in PEM")
		}
	}
	return pool, nil
}

// text says whether a value has so many characters.
func text(least, most int) func(string) bool {
	return func(s string) bool {
		n := len([]rune(s))
		return n >= least && n <= most && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' && r != '\n' && r != '\r' })
	}
}
