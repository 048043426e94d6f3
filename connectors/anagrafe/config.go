package anagrafe

import (
	"regexp"
	"slices"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/yamldoc"
)

// Config is the part of config/connectors/NAME.yaml that is this kind's own.
type Config struct {
	ClientID     string            // at PDND
	Audience     string            // of the client assertion
	TokenURL     string            // PDND's, outside the virtual city
	SoapURL      string            // service 6001, outside the virtual city
	ChangeURL    string            // service 5005, outside the virtual city
	Municipality string            // ISTAT code
	Officer      Officer           // ufficiale d'anagrafe in whose name certificates are issued
	User         string            // userID of the tracking evidence
	Location     string            // userLocation
	LoA          string            // level of assurance of the user
	Purposes     map[string]string // purposeId by e-service
	Keys         []Key             // signing keys at PDND; the first signs
	Certificates []Certificate     // of the SOAP station; the first signs
}

// Officer is a name that service 6001 asks for.
type Officer struct{ Surname, Name string }

// Key is a private key that PDND knows under a kid.
type Key struct {
	KID    string
	Secret connectors.Secret // PEM
}

// Certificate is a pair of files.
type Certificate struct{ Certificate, Key connectors.Secret }

var (
	uuidForm  = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	istatForm = regexp.MustCompile(`^[0-9]{6}$`)
)

// codes are the e-services that this connector asks.
func codes() []string { return []string{"C015", "C020", "C021", "C030"} }

func readConfig(n *yamldoc.Node) (Config, []yamldoc.Problem) {
	var f struct {
		ClientID     string `yaml:"client_id,required"`
		Audience     string `yaml:"audience"`
		TokenURL     string `yaml:"token_url"`
		SoapURL      string `yaml:"soap_url"`
		ChangeURL    string `yaml:"change_url"`
		Municipality string `yaml:"municipality,required"`
		Officer      struct {
			Surname string `yaml:"surname,required"`
			Name    string `yaml:"name,required"`
		} `yaml:"officer,required"`
		User     string            `yaml:"user"`
		Location string            `yaml:"location"`
		LoA      string            `yaml:"loa"`
		Purposes map[string]string `yaml:"purposes,required"`
		Keys     []*yamldoc.Node   `yaml:"keys"`
		Stations []*yamldoc.Node   `yaml:"certificates"`
	}
	ps := n.Decode(&f)
	c := Config{ClientID: f.ClientID, Audience: f.Audience, TokenURL: f.TokenURL, SoapURL: f.SoapURL, ChangeURL: f.ChangeURL, Municipality: f.Municipality,
		Officer: Officer(f.Officer), User: f.User, Location: f.Location, LoA: f.LoA, Purposes: f.Purposes}
	or := func(s *string, d string) {
		if *s == "" {
			*s = d
		}
	}
	or(&c.Audience, "auth.interop.pagopa.it/client-assertion")
	or(&c.TokenURL, "https://auth.interop.pagopa.it/token.oauth2")
	or(&c.ChangeURL, "https://ws.anpr.interno.it/ANPR5000ServiziMutazione/AnprService5000") // 5000serviziMutazione.wsdl
	or(&c.User, "dime")
	or(&c.Location, "bus")
	or(&c.LoA, "LOW")
	bad := func(key, msg string) {
		at := n.Get(key)
		if at == nil {
			at = n
		}
		ps = append(ps, at.Problem("value", msg))
	}
	if c.ClientID != "" && !uuidForm.MatchString(c.ClientID) {
		bad("client_id", "`client_id` is the UUID that PDND gave this client")
	}
	if c.Municipality != "" && !istatForm.MatchString(c.Municipality) {
		bad("municipality", "`municipality` is the ISTAT code, six digits in quotes")
	}
	if p := n.Get("purposes"); p != nil {
		for _, pair := range p.Pairs {
			switch {
			case !slices.Contains(codes(), pair.Key.Text):
				ps = append(ps, pair.Key.Problem("field", yamldoc.UnknownField(pair.Key.Text, codes())))
			case !uuidForm.MatchString(pair.Value.Text):
				ps = append(ps, pair.Value.Problem("value", "a purposeId is a UUID"))
			}
		}
		for _, code := range codes() {
			if p.Get(code) == nil {
				ps = append(ps, p.Problem("value", "the purposeId of "+code+" is missing"))
			}
		}
	}
	for _, k := range f.Keys {
		var d struct {
			KID    string `yaml:"kid,required"`
			Secret string `yaml:"secret,required"`
		}
		ps = append(ps, k.Decode(&d)...)
		s, sps := secret(k, "secret", d.Secret)
		c.Keys, ps = append(c.Keys, Key{d.KID, s}), append(ps, sps...)
	}
	for _, k := range f.Stations {
		var d struct {
			Certificate string `yaml:"certificate,required"`
			Key         string `yaml:"key,required"`
		}
		ps = append(ps, k.Decode(&d)...)
		cert, cps := secret(k, "certificate", d.Certificate)
		key, kps := secret(k, "key", d.Key)
		c.Certificates = append(c.Certificates, Certificate{cert, key})
		ps = append(append(ps, cps...), kps...)
	}
	return c, ps
}

func secret(n *yamldoc.Node, field, ref string) (connectors.Secret, []yamldoc.Problem) {
	if ref == "" {
		return connectors.Secret{}, nil
	}
	s, err := connectors.NewSecret(ref)
	if err != nil {
		return s, []yamldoc.Problem{n.Get(field).Problem("secret", err.Error())}
	}
	return s, nil
}
