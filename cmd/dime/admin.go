package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// admin speaks to a live server's admin listener.
type admin struct{ base string }

func (a *admin) flag(cmd *cobra.Command, name, def, what string) {
	if v := os.Getenv("DIME_" + strings.ToUpper(name)); v != "" {
		def = v
	}
	cmd.PersistentFlags().StringVar(&a.base, name, def, what)
}

func adminFlag(a *admin, cmd *cobra.Command) {
	a.flag(cmd, "admin", "127.0.0.1:8081", "address or URL of the server's admin listener")
}

// url joins the base, which may be a bare host:port, and a path.
func (a *admin) url(path string) (string, error) {
	base := a.base
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" {
		return "", usageError{fmt.Errorf("%q is not an address; write HOST:PORT or http://HOST:PORT", a.base)}
	}
	return strings.TrimRight(base, "/") + path, nil
}

// do sends a request and decodes the answer into out; a problem becomes an error
// with its title, detail and fields.
func (a *admin) do(ctx context.Context, method, path string, in, out any) error {
	u, err := a.url(path)
	if err != nil {
		return err
	}
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encoding the request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, u, body)
	if err != nil {
		return fmt.Errorf("building the request: %w", err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("asking %s: %w (is the server running there?)", u, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return fmt.Errorf("reading the answer of %s: %w", u, err)
	}
	if resp.StatusCode >= 400 {
		return problemError(u, resp.StatusCode, b)
	}
	if out == nil || len(b) == 0 {
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("understanding the answer of %s: %w", u, err)
	}
	return nil
}

func problemError(u string, status int, b []byte) error {
	var p struct {
		Title, Detail string
		Errors        []struct{ Pointer, Message string }
	}
	if json.Unmarshal(b, &p) != nil || p.Title == "" {
		return fmt.Errorf("%s answered %d: %s", u, status, strings.TrimSpace(string(b)))
	}
	msg := p.Title
	if p.Detail != "" {
		msg += ": " + p.Detail
	}
	for _, e := range p.Errors {
		msg += fmt.Sprintf("\n  %s: %s", e.Pointer, e.Message)
	}
	return errors.New(msg)
}
