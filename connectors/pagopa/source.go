package pagopa

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/clock"
	"github.com/dime-bus/dime/internal/fault"
)

const (
	lookAgain  = 2 * time.Second  // whether the address of our station has changed
	tellAgain  = time.Minute      // and tells the city anyway, which may have lost its memory
	chaseAgain = 10 * time.Minute // receipts that the node owes
	giveUp     = 48 * time.Hour   // until a payment that began counts as one that did not come about
)

// Run implements connectors.Source. In the virtual city it keeps the station's
// registration, which elsewhere a person does. Everywhere it asks the archive for
// the receipts of payments that began and of which the node told nothing more.
func (c *Connector) Run(ctx context.Context, publish connectors.Publish) error {
	told, at, chased := "", time.Time{}, c.clock.Now()
	for c.client != nil {
		now := c.clock.Now()
		if u := c.soapURL(); c.city && u != "" && (u != told || now.Sub(at) >= tellAgain) {
			if _, err := c.register(ctx); err != nil {
				if ctx.Err() != nil {
					return nil //nolint:nilerr // told to stop
				}
				return fmt.Errorf("registering the station: %w", err)
			}
			told, at = u, now
		}
		if now.Sub(chased) >= chaseAgain {
			if err := c.chase(ctx, publish); err != nil && ctx.Err() == nil {
				c.log().WarnContext(ctx, "asking for receipts that have not come failed; it is tried again", "error", err)
			}
			if err := c.forgetDemanded(ctx); err != nil && ctx.Err() == nil {
				c.log().WarnContext(ctx, "forgetting who did not pay at a counter failed; it is tried again", "error", err)
			}
			chased = now
		}
		if err := clock.Sleep(ctx, c.clock, lookAgain); err != nil {
			return nil //nolint:nilerr // told to stop
		}
	}
	<-ctx.Done()
	return nil
}

// chase asks the archive about each payment that began more than half an hour ago
// and has no receipt. What it finds is judged and published as if the node had
// sent it, under the same id.
func (c *Connector) chase(ctx context.Context, publish connectors.Publish) error {
	var pending []string
	if err := c.table.List(ctx, pendingRow, func(key string, _ []byte) error {
		pending = append(pending, strings.TrimPrefix(key, pendingRow))
		return nil
	}); err != nil {
		return err
	}
	var first error
	for _, iuv := range pending {
		over, err := c.chaseOne(ctx, iuv, publish)
		if err == nil && over {
			err = c.table.Update(ctx, pendingRow+iuv, func([]byte) ([]byte, error) { return nil, nil })
		}
		if err != nil && first == nil {
			first = err
		}
	}
	return first
}

// forgetDemanded drops who owes from positions that a counter demanded and nobody
// can pay any more. The position stays: a receipt may still come, and names nobody
// that we need.
func (c *Connector) forgetDemanded(ctx context.Context) error {
	today := c.clock.Now().In(c.zone).Format(time.DateOnly)
	var old []string
	if err := c.table.List(ctx, demandedRow, func(key string, due []byte) error {
		if string(due) < today {
			old = append(old, strings.TrimPrefix(key, demandedRow))
		}
		return nil
	}); err != nil {
		return err
	}
	for _, iupd := range old {
		iuv, err := c.numberOf(ctx, iupd)
		if err == nil && iuv != "" {
			_, err = c.change(ctx, iuv, func(row *position) error {
				if row != nil {
					row.forget()
				}
				return nil
			})
		}
		if err == nil { // without a number the crash came before it
			err = c.table.Update(ctx, demandedRow+iupd, func([]byte) ([]byte, error) { return nil, nil })
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// chaseOne says whether nothing more is to be expected of a position.
func (c *Connector) chaseOne(ctx context.Context, iuv string, publish connectors.Publish) (over bool, err error) {
	p, err := c.load(ctx, iuv)
	if err != nil {
		return false, err
	}
	if p == nil || p.Stage == paid || p.Stage == closed || p.Activated.IsZero() {
		return true, nil
	}
	since := c.clock.Now().Sub(p.Activated)
	if since < busy {
		return false, nil
	}
	r, err := c.fetchReceipt(ctx, p)
	if err != nil {
		if fault.From(err).Kind == fault.NotFound {
			return since >= giveUp, nil
		}
		return false, err
	}
	if r.outcome != "OK" {
		return true, nil
	}
	if f := c.settle(ctx, p, r, publish); f != nil {
		return false, fmt.Errorf("taking a receipt of the archive: %s: %s", f.code, f.description)
	}
	c.log().InfoContext(ctx, "a receipt that the node had not sent was taken from the archive", "iuv", iuv)
	return true, nil
}
