// Package control holds what Dime is compared with: the same work written by
// hand with the standard library only. Bodies are checked on both sides.
package control

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Order is the request of W1, about 1 KiB.
type Order struct {
	RequestID string   `json:"request_id"`
	Citizen   Citizen  `json:"citizen"`
	Address   Address  `json:"address"`
	Kind      string   `json:"kind"`
	Amount    int      `json:"amount"`
	Notes     string   `json:"notes"`
	Tags      []string `json:"tags"`
}

// Citizen is part of Order.
type Citizen struct {
	TaxCode string `json:"tax_code"`
	Name    string `json:"name"`
	Surname string `json:"surname"`
	Email   string `json:"email"`
}

// Address is part of Order.
type Address struct {
	Street   string `json:"street"`
	Number   string `json:"number"`
	Sestiere string `json:"sestiere"`
	Zip      string `json:"zip"`
}

// Practice is what the backend takes: ten fields.
type Practice struct {
	Ref      string   `json:"ref"`
	Holder   string   `json:"holder"`
	First    string   `json:"first"`
	Last     string   `json:"last"`
	Mail     string   `json:"mail"`
	Street   string   `json:"street"`
	District string   `json:"district"`
	Type     string   `json:"type"`
	Cents    int      `json:"cents"`
	Text     string   `json:"text"`
	Labels   []string `json:"labels"`
}

// Receipt is what the backend answers.
type Receipt struct {
	Number string   `json:"number"`
	Office string   `json:"office"`
	State  string   `json:"state"`
	Ref    string   `json:"ref"`
	Holder string   `json:"holder"`
	Cents  int      `json:"cents"`
	Days   int      `json:"days"`
	Text   string   `json:"text"`
	Labels []string `json:"labels"`
	Urgent bool     `json:"urgent"`
}

// Reply is the answer of W1.
type Reply struct {
	RequestID string   `json:"request_id"`
	Protocol  string   `json:"protocol"`
	Office    string   `json:"office"`
	Status    string   `json:"status"`
	TaxCode   string   `json:"tax_code"`
	Amount    int      `json:"amount"`
	Within    int      `json:"within"`
	Message   string   `json:"message"`
	Tags      []string `json:"tags"`
	Urgent    bool     `json:"urgent"`
}

// Sample returns the body of request n.
func Sample(n int) []byte {
	b, err := json.Marshal(Order{
		RequestID: fmt.Sprintf("r-%08d", n),
		Citizen:   Citizen{"RSSMRA80A01L736U", "Maria", "Rossi", "maria.rossi@posta.example"},
		Address:   Address{"Calle Larga San Marco", "1234/A", "San Marco", "30124"},
		Kind:      "residence", Amount: 1600,
		Notes: strings.Repeat("La pratica riguarda un immobile del centro storico. ", 11),
		Tags:  []string{"anagrafe", "certificati", "bollo", "sportello"},
	})
	if err != nil {
		panic(err) // fixed struct: cannot fail
	}
	return b
}

// CheckReply says whether b answers request n rightly.
func CheckReply(n int, b []byte) error {
	var r Reply
	if err := json.Unmarshal(b, &r); err != nil {
		return fmt.Errorf("reading the reply %.200q: %w", b, err)
	}
	if want := fmt.Sprintf("r-%08d", n); r.RequestID != want || r.Protocol != "P-"+want ||
		r.TaxCode != "RSSMRA80A01L736U" || r.Amount != 1600 || r.Within != 30 || len(r.Tags) != 4 {
		return fmt.Errorf("wrong reply to request %d: %.300s", n, b)
	}
	return nil
}

// Backend answers practices.
func Backend(w http.ResponseWriter, r *http.Request) {
	var p Practice
	if err := json.NewDecoder(r.Body).Decode(&p); err != nil || p.Ref == "" || p.Cents == 0 {
		http.Error(w, "bad practice", http.StatusBadRequest)
		return
	}
	b, err := json.Marshal(Receipt{"P-" + p.Ref, "Ufficio " + p.District, "open", p.Ref, p.Holder, p.Cents, 30, p.Text, p.Labels, false})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(b)
}

// HandWritten is W1 as a Go programmer would write it: decode, check, reshape,
// call the backend, decode, check, reshape, answer.
func HandWritten(backend string) http.Handler {
	client := &http.Client{
		Timeout:   5 * time.Second,
		Transport: &http.Transport{MaxIdleConns: 256, MaxIdleConnsPerHost: 256, IdleConnTimeout: 90 * time.Second},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var o Order
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&o); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if o.RequestID == "" || o.Citizen.TaxCode == "" || o.Address.Street == "" || o.Kind == "" {
			http.Error(w, "missing field", http.StatusBadRequest)
			return
		}
		in, err := json.Marshal(Practice{
			o.RequestID, o.Citizen.TaxCode, o.Citizen.Name, o.Citizen.Surname, o.Citizen.Email,
			o.Address.Street, o.Address.Sestiere, o.Kind, o.Amount, o.Notes, o.Tags,
		})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		req, err := http.NewRequestWithContext(r.Context(), http.MethodPost, backend, bytes.NewReader(in))
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(req)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
		if err != nil || resp.StatusCode != http.StatusOK {
			http.Error(w, "backend", http.StatusBadGateway)
			return
		}
		var rc Receipt
		if err := json.Unmarshal(b, &rc); err != nil || rc.Number == "" || rc.State == "" {
			http.Error(w, "backend's answer", http.StatusBadGateway)
			return
		}
		out, err := json.Marshal(Reply{rc.Ref, rc.Number, rc.Office, rc.State, rc.Holder, rc.Cents, rc.Days, rc.Text, rc.Labels, rc.Urgent})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(out)
	})
}
