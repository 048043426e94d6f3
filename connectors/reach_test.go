package connectors

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/dime-bus/dime/internal/httpclient"
)

func TestReach(t *testing.T) {
	client := httpclient.New(httpclient.Config{})
	defer client.Close()
	ask := func(h http.HandlerFunc, alive bool) error {
		s := httptest.NewServer(h)
		defer s.Close()
		base, err := url.Parse(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		if !alive {
			s.Close()
		}
		return Reach(context.Background(), client, base)
	}
	if err := ask(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }, true); err != nil {
		t.Errorf("an answer: %v", err)
	}
	if err := ask(nil, false); err == nil {
		t.Error("nobody there is reached")
	}
	err := ask(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
	}, true)
	if err == nil || !strings.Contains(err.Error(), "clock") {
		t.Errorf("another clock: %v", err)
	}
	if Reach(context.Background(), client, nil) == nil {
		t.Error("nowhere is reached")
	}
}
