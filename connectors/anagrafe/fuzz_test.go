package anagrafe

import (
	"errors"
	"net/http"
	"testing"

	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/httpclient"
)

func answer(status int, body string) *httpclient.Response {
	return &httpclient.Response{Status: status, Header: http.Header{}, Body: []byte(body)}
}

// isFault demands that an error is a fault, and one that may be: an answer came, so
// no request of ours may be called unsent but by a refusal to take it.
func isFault(t *testing.T, err error) {
	t.Helper()
	var f *fault.Error
	if err != nil && !errors.As(err, &f) {
		t.Errorf("%v is no fault", err)
	}
	if f != nil && (!f.Kind.Valid() || f.Kind == fault.Internal) {
		t.Errorf("%v is of the kind %q", err, f.Kind)
	}
}

func FuzzToken(f *testing.F) {
	f.Fuzz(func(t *testing.T, status int, body string) {
		life, token, flt := readToken(answer(status, body))
		if flt != nil {
			isFault(t, flt)
		} else if token == "" || life <= 0 {
			t.Errorf("a voucher %q for %v", token, life)
		}
	})
}

func FuzzConsultation(f *testing.F) {
	out := (&Connector{}).compile("family", familyOut, new(error))
	f.Fuzz(func(t *testing.T, status int, body string) {
		ss, err := readSubjects(answer(status, body))
		isFault(t, err)
		if err == nil && len(ss) == 0 {
			t.Error("neither subjects nor a fault")
		}
		for _, s := range ss {
			p, err := person(s)
			isFault(t, err)
			if err != nil {
				continue
			}
			withAddress(p, s)
			for _, k := range []string{"postal_code", "municipality", "since"} {
				delete(p, k)
			}
			p["members"] = []any{}
			if bad := out.Validate(p); len(bad) > 0 {
				t.Errorf("%v: %v", p, bad)
			}
		}
	})
}

func FuzzCertificateAnswer(f *testing.F) {
	f.Fuzz(func(t *testing.T, status int, body string) {
		for _, safe := range []bool{true, false} {
			_, err := read6001(answer(status, body), safe)
			isFault(t, err)
			if f := fault.From(err); err != nil && !f.Sent && status != http.StatusTooManyRequests && status != http.StatusServiceUnavailable {
				t.Errorf("%d is called unsent: %v", status, err)
			}
		}
	})
}

func FuzzStamp(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := readStamp(text); err == nil && s != nil && (s.IUBD == "" || s.Bought.IsZero() || s.AmountCent < 0) {
			t.Errorf("a stamp without what it is: %+v", s)
		}
	})
}
