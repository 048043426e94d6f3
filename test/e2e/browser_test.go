package e2e

import (
	"bytes"
	"encoding/json"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

// browser is a person's browser without JavaScript: it keeps cookies, follows
// redirects and submits forms.
type browser struct {
	t *testing.T
	c *http.Client
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{t, &http.Client{Jar: jar, Timeout: 20 * time.Second}}
}

// page is what the browser shows.
type page struct {
	url    *url.URL
	status int
	body   string
}

func (b *browser) do(r *http.Request) page {
	b.t.Helper()
	resp, err := b.c.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return page{resp.Request.URL, resp.StatusCode, string(body)}
}

func (b *browser) get(address string) page {
	b.t.Helper()
	r, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.do(r)
}

var (
	formText  = regexp.MustCompile(`(?s)<form\b([^>]*)>(.*?)</form>`)
	inputText = regexp.MustCompile(`<(?:input|button)\b([^>]*)>`)
	attribute = regexp.MustCompile(`([a-zA-Z-]+)="([^"]*)"`)
)

func attributes(s string) map[string]string {
	m := map[string]string{}
	for _, a := range attribute.FindAllStringSubmatch(s, -1) {
		m[a[1]] = html.UnescapeString(a[2])
	}
	return m
}

// press submits the form whose text holds word, with its hidden fields.
func (b *browser) press(p page, word string) page {
	b.t.Helper()
	for _, f := range formText.FindAllStringSubmatch(p.body, -1) {
		if !strings.Contains(f[2], word) {
			continue
		}
		form := attributes(f[1])
		action, err := p.url.Parse(form["action"])
		if err != nil || !strings.EqualFold(form["method"], "post") {
			b.t.Fatalf("the form posts nothing: %q", f[1])
		}
		values := url.Values{}
		for _, i := range inputText.FindAllStringSubmatch(f[2], -1) {
			if a := attributes(i[1]); a["name"] != "" {
				values.Set(a["name"], a["value"])
			}
		}
		r, err := http.NewRequest(http.MethodPost, action.String(), strings.NewReader(values.Encode()))
		if err != nil {
			b.t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", p.url.Scheme+"://"+p.url.Host)
		return b.do(r)
	}
	b.t.Fatalf("no form says %q on %s (%d):\n%s", word, p.url, p.status, p.body)
	return page{}
}

// json asks the API and decodes the answer.
func (s *server) json(t *testing.T, method, address, token string, body any, into any) int {
	t.Helper()
	var b io.Reader
	if body != nil {
		x, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		b = bytes.NewReader(x)
	}
	r, err := http.NewRequest(method, address, b)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	x, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if into != nil {
		if raw, ok := into.(*[]byte); ok {
			*raw = x
		} else if err := json.Unmarshal(x, into); err != nil {
			t.Fatalf("%s %s: %d %s: %v", method, address, resp.StatusCode, x, err)
		}
	}
	return resp.StatusCode
}

type runView struct {
	State  string
	Result map[string]any
}

// ended waits for a run's end, as its owner sees it.
func (s *server) ended(t *testing.T, follow, token string) runView {
	t.Helper()
	var v runView
	deadline := time.Now().Add(40 * time.Second)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for v.State != "done" {
		if time.Now().After(deadline) {
			t.Fatalf("the run did not end: %+v", v)
		}
		<-tick.C
		v = runView{}
		if status := s.json(t, http.MethodGet, follow, token, nil, &v); status != http.StatusOK {
			t.Fatalf("%s: %d", follow, status)
		}
		switch v.State {
		case "failed", "parked", "cancelled":
			t.Fatalf("the run is %s: %+v", v.State, v)
		}
	}
	return v
}
