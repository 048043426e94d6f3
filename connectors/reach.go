package connectors

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/httpclient"
)

// clockSlack is how far a far side's clock may be from ours: signed tokens bear no
// more. Its Date header has whole seconds.
const clockSlack = 30 * time.Second

// Reach is Check of an HTTP backend: any answer at all at its base URL will do, if
// it was given at our time.
func Reach(ctx context.Context, client *httpclient.Client, base *url.URL) error {
	if client == nil || base == nil {
		return fault.New(fault.Unavailable, "there is no address to be called at")
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	resp, err := client.Do(ctx, httpclient.Request{Method: http.MethodGet, URL: base, Safe: true})
	if err != nil {
		return fmt.Errorf("asking %s: %w", base.Redacted(), err)
	}
	if at, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		if d := time.Until(at); d.Abs() > clockSlack {
			return fmt.Errorf("asking %s: its clock and ours are %s apart", base.Redacted(), d.Abs().Round(time.Second))
		}
	}
	return nil
}
