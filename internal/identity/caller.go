// Package identity says who calls: the Caller that expressions see, the tokens
// that carry it, and the clients that may use the bus.
package identity

// Caller is who asked for a run (route-language, "What expressions see"). It is
// part of a durable run's head and is never changed afterwards.
type Caller struct {
	Kind         string   `json:"kind"`              // citizen, operator, desk, partner, module, timer, event
	Subject      string   `json:"subject,omitempty"` // stable id of the person or client: scopes `once` and ownership
	Assurance    int      `json:"assurance"`         // 0-3
	TaxCode      string   `json:"tax_code,omitempty"`
	Organisation string   `json:"organisation,omitempty"`
	Office       string   `json:"office,omitempty"`
	Roles        []string `json:"roles,omitempty"`
	ActingFor    string   `json:"acting_for,omitempty"`
	Mandate      string   `json:"mandate,omitempty"`
	Channel      string   `json:"channel,omitempty"`
	Language     string   `json:"language,omitempty"` // it, en, de, fr
}

// Anonymous says that nobody signed in.
func (c *Caller) Anonymous() bool {
	return c == nil || c.Kind == "" || c.Subject == "" && c.Kind == "citizen"
}

// Owner is what ownership and `once` are scoped to: the subject, else the tax code.
func (c *Caller) Owner() string {
	switch {
	case c == nil:
		return ""
	case c.Subject != "":
		return c.Kind + ":" + c.Subject
	case c.TaxCode != "":
		return c.Kind + ":" + c.TaxCode
	}
	return c.Kind
}
