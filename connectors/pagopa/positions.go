package pagopa

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/fault"
)

// stage is where a position stands on our side. GPD has its own states; ours say
// what the node may be answered.
type stage string

const (
	opening   stage = "opening"   // its number is taken; GPD has not said yes
	open      stage = "open"      // payable
	closing   stage = "closing"   // GPD is being asked to invalidate it
	closed    stage = "closed"    // invalidated
	receiving stage = "receiving" // a receipt has come and is being published
	paid      stage = "paid"      // the receipt is published
)

// position is a row. Who owes is kept while it can be paid, for paGetPaymentV2
// must name them, and forgotten then.
type position struct {
	IUV         string     `json:"iuv"`
	IUPD        string     `json:"iupd"`
	Amount      int        `json:"amount"`
	Description string     `json:"description"`
	Due         string     `json:"due"` // 2026-12-31
	Debtor      *debtor    `json:"debtor,omitempty"`
	Transfers   []transfer `json:"transfers"`
	Stage       stage      `json:"stage"`
	Demanded    bool       `json:"demanded,omitempty"` // at a counter: GPD does not know it
	Activated   time.Time  `json:"activated,omitzero"` // the node fetched it to be paid
	CheckoutURL string     `json:"checkout_url,omitempty"`
	Receipt     string     `json:"receipt,omitempty"` // its id, once one was taken
}

type debtor struct {
	Code string `json:"code"` // codice fiscale, or anonymous
	Name string `json:"name"`
}

// anonymous stands for a payer whom nobody named (SANP, debtor).
const anonymous = "ANONIMO"

// kind is entityUniqueIdentifierType: F a person, G an organisation.
func (d debtor) kind() string {
	if len(d.Code) == 11 && digits(d.Code) {
		return "G"
	}
	return "F"
}

type transfer struct {
	Amount       int    `json:"amount"`
	Organisation string `json:"organisation"`
	Company      string `json:"company,omitempty"`
	IBAN         string `json:"iban,omitempty"`
	Hash         string `json:"hash,omitempty"` // of a stamp's document, hexadecimal; then there is no IBAN
	Province     string `json:"province,omitempty"`
	Category     string `json:"category"`
	Description  string `json:"description"`
}

func (p *position) notice() string { return auxDigit + p.IUV }

func (p *position) stamped() bool {
	return slices.ContainsFunc(p.Transfers, func(t transfer) bool { return t.Hash != "" })
}

// expired says whether its last day is over in the city.
func (c *Connector) expired(p *position, now time.Time) bool {
	return now.In(c.zone).Format(time.DateOnly) > p.Due
}

// forget drops what is not needed once nobody can pay any more.
func (p *position) forget() { p.Debtor = nil }

// iupdOf is the identifier of the position that an effect opens: the same key
// gives the same one, so that GPD refuses a second.
func iupdOf(key string) string {
	sum := sha256.Sum256([]byte("pagopa.open_position\x00" + key))
	return "DIME-" + hex.EncodeToString(sum[:16])
}

const (
	positionRow = "position/" // + IUV
	iupdRow     = "iupd/"     // + IUPD: its IUV
	pendingRow  = "pending/"  // + IUV: the node fetched it to be paid, and no receipt has come
	demandedRow = "demanded/" // + IUPD: the last day of a position that a counter demanded
	keyRow      = "subscription-key"
)

func unavailable(what string, err error) *fault.Error {
	return &fault.Error{Kind: fault.Unavailable, Detail: what, Err: err}
}

const storeFails = "the store of positions can't be read or written"

// load reads a position; nil where there is none.
func (c *Connector) load(ctx context.Context, iuv string) (*position, error) {
	b, found, err := c.table.Get(ctx, positionRow+iuv)
	if err != nil || !found {
		return nil, err
	}
	var p position
	if err := json.Unmarshal(b, &p); err != nil {
		return nil, fmt.Errorf("reading a position: %w", err)
	}
	return &p, nil
}

// numberOf is the IUV that an IUPD was given, "" where none was.
func (c *Connector) numberOf(ctx context.Context, iupd string) (string, error) {
	b, _, err := c.table.Get(ctx, iupdRow+iupd)
	return string(b), err
}

// change replaces a position by what f makes of it and returns that. f's error
// changes nothing and is returned as it is; p is nil where there is none.
func (c *Connector) change(ctx context.Context, iuv string, f func(p *position) error) (*position, error) {
	var after *position
	err := c.table.Update(ctx, positionRow+iuv, func(old []byte) ([]byte, error) {
		var p *position
		if old != nil {
			p = &position{}
			if err := json.Unmarshal(old, p); err != nil {
				return nil, fmt.Errorf("reading a position: %w", err)
			}
		}
		if err := f(p); err != nil {
			return nil, err
		}
		after = p
		return json.Marshal(p)
	})
	if err != nil {
		return nil, err
	}
	return after, nil
}

var errTaken = errors.New("the number is taken")

// number gives a position its IUV: one that no position ever had. Where another
// call has numbered the same IUPD meanwhile, p becomes that one's position, and
// the number that was drawn is wasted, as one that a crash left behind.
func (c *Connector) number(ctx context.Context, p *position) error {
	for range 20 {
		iuv, err := newIUV(c.cfg.Segregation)
		if err != nil {
			return err
		}
		drawn := *p
		drawn.IUV, drawn.Transfers = iuv, slices.Clone(p.Transfers)
		for i := range drawn.Transfers {
			t := &drawn.Transfers[i]
			if t.Description == "" {
				t.Description = fmt.Sprintf("/RFB/%s/%s/TXT/%s", iuv, euros(t.Amount), p.Description)
			}
			t.Description = cut(t.Description, 140)
		}
		b, err := json.Marshal(drawn)
		if err != nil {
			return fmt.Errorf("writing a position: %w", err)
		}
		err = c.table.Update(ctx, positionRow+iuv, func(old []byte) ([]byte, error) {
			if old != nil {
				return nil, errTaken
			}
			return b, nil
		})
		if errors.Is(err, errTaken) {
			continue
		}
		if err != nil {
			return err
		}
		given := iuv
		if err := c.table.Update(ctx, iupdRow+p.IUPD, func(old []byte) ([]byte, error) {
			if given = iuv; old != nil {
				given = string(old)
			}
			return []byte(given), nil
		}); err != nil {
			return err
		}
		if given == iuv {
			*p = drawn
			return nil
		}
		other, err := c.load(ctx, given)
		if err != nil {
			return err
		}
		if other == nil {
			return errors.New("numbering a position: its row is gone")
		}
		*p = *other
		return nil
	}
	return errors.New("drawing a notice number: twenty were taken: the segregation code is nearly used up")
}

func cut(s string, n int) string {
	r := []rune(s)
	return string(r[:min(n, len(r))])
}

// memory is the table of a connector that was lent none.
type memory struct {
	mu   sync.Mutex
	rows map[string][]byte
}

var _ connectors.Table = (*memory)(nil)

func (m *memory) Get(_ context.Context, key string) ([]byte, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.rows[key]
	return slices.Clone(b), ok, nil
}

func (m *memory) Update(_ context.Context, key string, f func([]byte) ([]byte, error)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, err := f(slices.Clone(m.rows[key]))
	if err != nil {
		return err
	}
	if b == nil {
		delete(m.rows, key)
	} else {
		m.rows[key] = slices.Clone(b)
	}
	return nil
}

func (m *memory) List(_ context.Context, prefix string, each func(string, []byte) error) error {
	m.mu.Lock()
	rows := map[string][]byte{}
	var keys []string
	for k, v := range m.rows {
		if strings.HasPrefix(k, prefix) {
			keys, rows[k] = append(keys, k), slices.Clone(v)
		}
	}
	m.mu.Unlock()
	slices.Sort(keys)
	for _, k := range keys {
		if err := each(k, rows[k]); err != nil {
			return err
		}
	}
	return nil
}
