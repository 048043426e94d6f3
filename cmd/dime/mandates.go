package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/taxcode"
	"github.com/dime-bus/dime/pipeline/language"
	"github.com/dime-bus/dime/pipeline/run"
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
	op := mandateOf(s.engine.City())
	if op == nil || !taxcode.Valid(deputy) || !taxcode.Valid(principal) {
		return false, nil
	}
	if purpose == "" {
		purpose = "none"
	}
	p := op.Policy.Or(connectors.DefaultPolicy())
	args := map[string]any{"deputy": deputy, "principal": principal, "purpose": purpose}
	for attempt := 1; ; attempt++ {
		valid, err := askMandate(ctx, s.guards.of(mandateRegister), op, p.Timeout, connectors.Call{Args: args, Attempt: attempt})
		f := fault.From(err)
		if err == nil || !f.Kind.Row().Transient || attempt >= p.Attempts {
			if err != nil {
				return false, fmt.Errorf("asking the register of mandates: %w", f)
			}
			return valid, nil
		}
	}
}

func mandateOf(c *language.City) *connectors.Operation {
	for _, op := range c.Connectors[mandateRegister].Operations {
		if op.Name == mandateOperation && op.Effect == connectors.Safe {
			return op
		}
	}
	return nil
}

func askMandate(ctx context.Context, g run.Guard, op *connectors.Operation, timeout time.Duration, call connectors.Call) (valid bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	call.GiveUp, _ = ctx.Deadline()
	if g != nil {
		leave, err := g.Enter(ctx, op)
		if err != nil {
			return false, err
		}
		defer func() { leave(err) }()
	}
	v, err := op.Do(ctx, call)
	if err != nil {
		return false, err
	}
	m, _ := v.(map[string]any)
	valid, ok := m["valid"].(bool)
	if !ok {
		return false, &fault.Error{Kind: fault.Contract, Sent: true, Err: errors.New("the answer has no `valid`")}
	}
	return valid, nil
}
