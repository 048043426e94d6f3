package anagrafe

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dime-bus/dime/connectors"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/httpclient"
	"github.com/dime-bus/dime/internal/jose"
	"github.com/dime-bus/dime/internal/schema"
)

// service is the name behind an e-service's code. C015's is assumed.
func service(code string) string {
	return map[string]string{
		"C015": "C015-servizioAccertamentoGeneralita", "C020": "C020-servizioAccertamentoResidenza",
		"C021": "C021-servizioAccertamentoStatoFamiglia", "C030": "C030-servizioAccertamentoIdUnicoNazionale",
	}[code]
}

// audience of ModI's tokens: not the address, for its segment lacks -PDND and it
// ends at /v1.
func (c *Connector) audience(code string) string {
	return c.at("/MinInternoPortaANPR/" + service(code) + "/v1").String()
}

// consult asks an e-service. idOperazioneClient grows in the order in which the
// requests leave, also among processes (C001: a lower one is an error), so that
// the next request of a series leaves when this one is answered.
func (c *Connector) consult(ctx context.Context, code, run string, criteria map[string]any) ([]any, error) {
	var subjects []any
	err := c.numbers.Next(ctx, c.desc.Name+"-"+code+"-"+c.cfg.ClientID, c.clock.Now().UnixMilli(), func(ctx context.Context, number int64) error {
		resp, err := c.send(ctx, code, run, number, criteria)
		if err == nil && resp.Status == http.StatusUnauthorized {
			// A voucher that was taken back, a key that was exchanged: once anew.
			c.forget()
			resp, err = c.send(ctx, code, run, number, criteria)
		}
		if err != nil {
			return err
		}
		subjects, err = readSubjects(resp)
		return err
	})
	return subjects, err
}

func (c *Connector) send(ctx context.Context, code, run string, number int64, criteria map[string]any) (*httpclient.Response, error) {
	key, err := c.signer(ctx)
	if err != nil {
		return nil, signerless(err)
	}
	v, err := c.voucherFor(ctx, code, key)
	if err != nil {
		return nil, err
	}
	if run == "" {
		run = "dime"
	}
	body, err := json.Marshal(map[string]any{
		"idOperazioneClient": strconv.FormatInt(number, 10),
		"criteriRicerca":     criteria,
		"datiRichiesta": map[string]any{
			"dataRiferimentoRichiesta": c.clock.Now().Add(-behind).In(c.zone).Format(time.DateOnly), "motivoRichiesta": run, "casoUso": code,
		},
	})
	if err != nil {
		return nil, &fault.Error{Kind: fault.Internal, Detail: "the request can't be written as JSON", Err: err}
	}
	to := c.at("/MinInternoPortaANPR-PDND/" + service(code) + "/v1/anpr-service-e002")
	const kind = "application/json"
	sum := sha256.Sum256(body)
	digest := "SHA-256=" + base64.StdEncoding.EncodeToString(sum[:])
	now := c.clock.Now().Add(-behind)
	// ModI, INTEGRITY_REST_02.
	signature, err := jose.Sign(key.key, jose.Header{Type: "JWT", KID: key.kid}, map[string]any{
		"iss": c.cfg.ClientID, "sub": c.cfg.ClientID, "aud": c.audience(code), "jti": uuid(), "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(signatureLife).Unix(),
		"signed_headers": []any{map[string]any{"digest": digest}, map[string]any{"content-type": kind}},
	})
	if err != nil {
		return nil, unavailable("the signature can't be made", err)
	}
	proof, err := c.proof(v.proof, http.MethodPost, to, v.token)
	if err != nil {
		return nil, err
	}
	h := http.Header{
		"Authorization": {"DPoP " + v.token}, "Dpop": {proof}, "Content-Type": {kind}, "Accept": {kind + ", application/problem+json"},
		"Digest": {digest}, "Agid-Jwt-Signature": {signature}, "Agid-Jwt-Trackingevidence": {v.evidence},
	}
	return c.client.Do(ctx, httpclient.Request{Method: http.MethodPost, URL: to, Safe: true, Header: h, Body: body})
}

// readSubjects reads RispostaE002OK, RispostaKO, or a refusal of the gateway.
func readSubjects(resp *httpclient.Response) ([]any, error) {
	v, err := schema.DecodeJSON(resp.Body)
	m, _ := v.(map[string]any)
	if resp.Status != http.StatusOK {
		return nil, refusal(resp, m)
	}
	list, _ := m["listaSoggetti"].(map[string]any)
	subjects, _ := list["datiSoggetto"].([]any)
	if err != nil || len(subjects) == 0 {
		return nil, broken(resp.Body, "ANPR's answer names no subject")
	}
	return subjects, nil
}

func broken(body []byte, detail string) *fault.Error {
	return &fault.Error{Kind: fault.Contract, Sent: true, Raw: body[:min(len(body), 64<<10)], Detail: detail}
}

// refusal reads listaErrori of ANPR or GovWay's problem. What is repeated of it
// names nobody: code, field and the gateway's words.
func refusal(resp *httpclient.Response, m map[string]any) *fault.Error {
	if es, _ := m["listaErrori"].([]any); len(es) > 0 {
		e, _ := es[0].(map[string]any)
		str := func(k string) string { s, _ := e[k].(string); return s }
		code := str("codiceErroreAnomalia")
		f := &fault.Error{Kind: fault.Invalid, Sent: true, Detail: strings.TrimSpace(fmt.Sprintf("ANPR answered %.10s %.40s", code, str("campoErroreAnomalia")))}
		switch {
		case code == "EN122":
			f.Kind, f.Name, f.Detail = fault.NotFound, "not_found", "the register knows nobody of this code"
		case resp.Status == http.StatusNotFound:
			// Only EN122 says that there is no such person; nobody is told so for less.
			return broken(resp.Body, fmt.Sprintf("ANPR answered 404 with %.10q, which does not say that nobody was found", code))
		case resp.Status >= 500:
			f.Kind, f.Sent = fault.Unavailable, true
		}
		return f
	}
	title, _ := m["title"].(string)
	switch {
	case resp.Status == http.StatusUnauthorized || resp.Status == http.StatusForbidden:
		return &fault.Error{Kind: fault.Denied, Sent: true, Detail: fmt.Sprintf("the gateway refused with %d %.60s", resp.Status, title)}
	case resp.Status == http.StatusBadRequest:
		return &fault.Error{Kind: fault.Invalid, Sent: true, Detail: fmt.Sprintf("the gateway refused with 400 %.60s", title)}
	}
	if resp.Status == http.StatusNotFound {
		return &fault.Error{Kind: fault.Unavailable, Sent: true, Detail: "the gateway has no such e-service at this address: it answered 404 without ANPR's listaErrori"}
	}
	if f := httpclient.FaultOf(resp.Status, true, resp.Header); f != nil {
		return f
	}
	return broken(resp.Body, fmt.Sprintf("ANPR answered %d, which its contract does not have", resp.Status))
}

// ids remembers ANPR's own numbers of people for a while, by codice fiscale. They
// do not change; a bound keeps the memory small.
type ids struct {
	mu sync.Mutex
	by map[string]string
}

const maxIDs = 10_000

// idOf is C030: since 18 April 2024 the other e-services take idANPR alone.
func (c *Connector) idOf(ctx context.Context, run, code string) (string, error) {
	c.ids.mu.Lock()
	id, ok := c.ids.by[code]
	c.ids.mu.Unlock()
	if ok {
		return id, nil
	}
	subjects, err := c.consult(ctx, "C030", run, map[string]any{"codiceFiscale": code})
	if err != nil {
		return "", err
	}
	id = str(dig(subjects[0], "identificativi"), "idANPR")
	if id == "" {
		return "", broken(nil, "ANPR's answer has no idANPR")
	}
	c.ids.mu.Lock()
	defer c.ids.mu.Unlock()
	if c.ids.by == nil || len(c.ids.by) >= maxIDs {
		c.ids.by = map[string]string{}
	}
	c.ids.by[code] = id
	return id, nil
}

// about asks an e-service for the person of a codice fiscale.
func (c *Connector) about(ctx context.Context, code string, call connectors.Call) ([]any, error) {
	cf, _ := call.Args["tax_code"].(string)
	id, err := c.idOf(ctx, call.Run, cf)
	if err != nil {
		return nil, err
	}
	return c.consult(ctx, code, call.Run, map[string]any{"idANPR": id})
}

func dig(v any, path ...string) any {
	for _, k := range path {
		m, _ := v.(map[string]any)
		v = m[k]
	}
	return v
}

func str(v any, path ...string) string {
	s, _ := dig(v, path...).(string)
	return s
}
