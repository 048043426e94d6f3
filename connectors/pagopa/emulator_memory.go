package pagopa

import (
	"bufio"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// emStation is a creditor's station as the back office knows it.
type emStation struct {
	IDPA        string `json:"idPA"`
	IDBrokerPA  string `json:"idBrokerPA"`
	IDStation   string `json:"idStation"`
	Segregation string `json:"segregation"`
	SoapURL     string `json:"soap_url"`
	Company     string `json:"company"`
	Key         string `json:"key"`
}

// emPosition is a debt position of GPD.
type emPosition struct {
	Org      string     `json:"org"`
	IUPD     string     `json:"iupd"`
	Status   string     `json:"status"`
	Body     emBody     `json:"body"`
	Inserted time.Time  `json:"inserted"`
	Paid     *time.Time `json:"paid,omitempty"`
	Key      string     `json:"key"`
	Gone     bool       `json:"gone,omitempty"` // deleted
}

func (p *emPosition) option() *emOption { return &p.Body.PaymentOption[0] }

// emCart is a page of Checkout.
type emCart struct {
	ID      string   `json:"id"`
	Notices []emItem `json:"notices"`
	OK      string   `json:"ok"`
	Cancel  string   `json:"cancel"`
	Error   string   `json:"error"`
}

// emItem is a notice of a cart.
type emItem struct {
	Notice string `json:"notice"`
	Org    string `json:"org"`
	Amount int    `json:"amount"` // 0 takes what the creditor says
}

// emPayment is a payment and its receipt, which is owed until it is answered.
type emPayment struct {
	Notice    string    `json:"notice"`
	Org       string    `json:"org"`
	IUV       string    `json:"iuv"`
	ReceiptID string    `json:"receipt_id"`
	At        time.Time `json:"at"`
	Receipt   string    `json:"receipt"` // the request of paSendRTV2
	Delivered bool      `json:"delivered"`
	Tries     int       `json:"tries"`
	Next      time.Time `json:"next"` // when the receipt is sent (again)
}

type emEffect struct {
	Operation string    `json:"operation"`
	Subject   string    `json:"subject"`
	Key       string    `json:"key"`
	At        time.Time `json:"at"`
}

// emLine is part of a line of the memory: what became of one thing.
type emLine struct {
	Station  *emStation  `json:"station,omitempty"`
	Position *emPosition `json:"position,omitempty"`
	Cart     *emCart     `json:"cart,omitempty"`
	Payment  *emPayment  `json:"payment,omitempty"`
	Effect   *emEffect   `json:"effect,omitempty"`
	PSP      string      `json:"psp,omitempty"` // the key that signs stamps
}

// emMemory is the far side's memory: a file to which a line is appended, whole,
// for each change.
type emMemory struct {
	file  *os.File
	lines []emLine // where there is no file

	stations  map[string]*emStation // by creditor
	positions map[string]*emPosition
	notices   map[string]*emPosition // by org and notice number
	carts     map[string]*emCart
	payments  map[string]*emPayment // by notice
	effects   []emEffect
	psp       string
}

func openEmMemory(file string, past []emLine) (*emMemory, error) {
	m := &emMemory{stations: map[string]*emStation{}, positions: map[string]*emPosition{}, notices: map[string]*emPosition{},
		carts: map[string]*emCart{}, payments: map[string]*emPayment{}}
	if file == "" {
		for _, l := range past {
			m.play(l)
		}
		m.lines = past
		return m, nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Clean(file), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	m.file = f
	good := int64(0)
	for r := bufio.NewReaderSize(f, 64<<10); ; {
		b, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			if len(b) > 0 { // torn by a kill: it was never answered
				if err := f.Truncate(good); err != nil {
					return nil, errors.Join(err, f.Close())
				}
			}
			return m, nil
		}
		var ls []emLine
		if err == nil {
			err = json.Unmarshal(b, &ls)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: the line at byte %d is damaged: %w; move the file away to begin anew", file, good, err), f.Close())
		}
		good += int64(len(b))
		for _, l := range ls {
			m.play(l)
		}
	}
}

func (m *emMemory) play(l emLine) {
	switch {
	case l.Station != nil:
		m.stations[l.Station.IDPA] = l.Station
	case l.Position != nil:
		p := l.Position
		m.positions[p.Org+"/"+p.IUPD], m.notices[p.Org+"/"+p.option().NAV] = p, p
		if p.Gone {
			delete(m.positions, p.Org+"/"+p.IUPD)
			delete(m.notices, p.Org+"/"+p.option().NAV)
		}
	case l.Cart != nil:
		m.carts[l.Cart.ID] = l.Cart
	case l.Payment != nil:
		m.payments[l.Payment.Org+"/"+l.Payment.Notice] = l.Payment
	case l.Effect != nil:
		m.effects = append(m.effects, *l.Effect)
	case l.PSP != "":
		m.psp = l.PSP
	}
}

// write appends what belongs together as one line, so that a kill leaves all of it
// or a torn tail.
func (m *emMemory) write(ls ...emLine) error {
	line, err := json.Marshal(ls)
	if err != nil {
		return err
	}
	if m.file == nil {
		m.lines = append(m.lines, ls...)
	} else if _, err := m.file.Write(append(line, '\n')); err != nil {
		return err
	}
	for _, l := range ls {
		m.play(l)
	}
	return nil
}

func (m *emMemory) close() error {
	if m.file == nil {
		return nil
	}
	return m.file.Close()
}

// pspKey is the key of the payment service provider that sells stamps; made on
// first use, for it is worth nothing outside the virtual city.
func (m *emMemory) pspKey() (*rsa.PrivateKey, error) {
	if m.psp != "" {
		b, err := base64.StdEncoding.DecodeString(m.psp)
		if err != nil {
			return nil, err
		}
		k, err := x509.ParsePKCS1PrivateKey(b)
		if err != nil {
			return nil, err
		}
		return k, nil
	}
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	return k, m.write(emLine{PSP: base64.StdEncoding.EncodeToString(x509.MarshalPKCS1PrivateKey(k))})
}
