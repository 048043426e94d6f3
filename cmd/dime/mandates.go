package main

import (
	"context"
	"fmt"

	"github.com/dime-bus/dime/cmd/dime/inquire"
	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/taxcode"
)

// The register of mandates is the connector of this name: its operation takes
// {deputy, principal, purpose} and answers {valid}.
const (
	mandateRegister  = "deleghe"
	mandateOperation = "mandate"
)

// mandates asks the city's register; where it has none, everybody acts for
// himself alone.
func (s *server) mandates(ctx context.Context, deputy, principal, purpose string) (bool, error) {
	op := s.operation(mandateRegister, mandateOperation)
	if op == nil || op.Effect != connectors.Safe || !taxcode.Valid(deputy) || !taxcode.Valid(principal) {
		return false, nil
	}
	if purpose == "" {
		purpose = "none"
	}
	valid, err := inquire.Field[bool](ctx, s.guards.of(mandateRegister), op, "", "valid", map[string]any{"deputy": deputy, "principal": principal, "purpose": purpose})
	if err != nil {
		return false, fmt.Errorf("asking the register of mandates: %w", err)
	}
	return valid, nil
}

// operation finds one of the city's; nil where there is none.
func (s *server) operation(connector, name string) *connectors.Operation {
	for _, op := range s.engine.City().Connectors[connector].Operations {
		if op.Name == name {
			return op
		}
	}
	return nil
}
