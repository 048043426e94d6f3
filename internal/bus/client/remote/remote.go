// Package remote is the bus client for programs that reach the city over its
// RabbitMQ: a call and its answer, both JSON, as README.md writes down. Client is
// the program's end, Handler the city's, which grants the program's rights and
// nothing else.
package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/dime-bus/dime/internal/bus/client"
	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/internal/identity"
	"github.com/dime-bus/dime/internal/schema"
)

// The kinds of a call.
const (
	kindRequest = "request"
	kindPublish = "publish"
	kindRead    = "read"
)

// readFor is how long a read waits for an event before it answers that there is none.
const readFor = 5 * time.Second

// requestFor bounds a call whose caller sets no deadline.
const requestFor = 30 * time.Second

// call is what a program sends; each kind has its fields.
type call struct {
	Route  string           `json:"route,omitempty"`
	Req    json.RawMessage  `json:"req,omitempty"`
	Caller *identity.Caller `json:"caller,omitempty"`
	Key    string           `json:"key,omitempty"`

	Event string          `json:"event,omitempty"`
	ID    string          `json:"id,omitempty"`
	Data  json.RawMessage `json:"data,omitempty"`

	After client.Cursor `json:"after,omitempty"`
}

// answer is what the city sends back: a fault, or what the kind gives.
type answer struct {
	Fault *refusal `json:"fault,omitempty"`

	Status  int               `json:"status,omitempty"`
	Body    json.RawMessage   `json:"body,omitempty"`
	Problem *problem          `json:"problem,omitempty"`
	Header  map[string]string `json:"header,omitempty"`
	Run     string            `json:"run,omitempty"`

	Events []event `json:"events,omitempty"`
}

type refusal struct {
	Kind    fault.Kind `json:"kind"`
	Detail  string     `json:"detail,omitempty"`
	Pointer string     `json:"pointer,omitempty"`
}

type problem struct {
	Type   string              `json:"type"`
	Title  string              `json:"title"`
	Status int                 `json:"status"`
	Detail string              `json:"detail,omitempty"`
	Say    string              `json:"say,omitempty"`
	URL    string              `json:"run_url,omitempty"`
	Errors []client.FieldError `json:"errors,omitempty"`
}

type event struct {
	Cursor  client.Cursor   `json:"cursor"`
	ID      string          `json:"id"`
	Type    string          `json:"type"`
	Version int             `json:"version"`
	At      time.Time       `json:"at"`
	Data    json.RawMessage `json:"data"`
}

// Caller carries a call to the city and its answer back.
type Caller interface {
	Call(ctx context.Context, program, kind string, body []byte) ([]byte, error)
}

// Client implements client.Client.
type Client struct {
	c       Caller
	program string // the name of the credential
}

var _ client.Client = (*Client)(nil)

// New returns the client of a program.
func New(c Caller, program string) *Client { return &Client{c, program} }

func (c *Client) ask(ctx context.Context, kind string, q call) (answer, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return answer{}, fault.New(fault.Invalid, "what is sent is not plain JSON")
	}
	asking, cancel := context.WithTimeout(ctx, requestFor)
	defer cancel()
	b, err := c.c.Call(asking, c.program, kind, body)
	if ctx.Err() != nil {
		return answer{}, ctx.Err()
	}
	if err != nil {
		return answer{}, &fault.Error{Kind: fault.Unavailable, Sent: true, Detail: "the city did not answer", Err: err}
	}
	var a answer
	if err := json.Unmarshal(b, &a); err != nil {
		return answer{}, &fault.Error{Kind: fault.Contract, Detail: "the city's answer can't be read", Err: err}
	}
	if f := a.Fault; f != nil {
		return answer{}, &fault.Error{Kind: f.Kind, Detail: f.Detail, Pointer: f.Pointer}
	}
	return a, nil
}

// raw writes a value as JSON.
func raw(v any) (json.RawMessage, error) {
	b, err := schema.Canonical(v)
	if err != nil {
		return nil, fault.New(fault.Invalid, "what is sent is not plain JSON")
	}
	return b, nil
}

// value reads JSON as the engine does; absent is nil.
func value(b json.RawMessage) (any, error) {
	if len(b) == 0 {
		return nil, nil
	}
	return schema.DecodeJSON(b)
}

// Request implements client.Client.
func (c *Client) Request(ctx context.Context, r client.Request) (client.Answer, error) {
	req, err := raw(r.Req)
	if err != nil {
		return client.Answer{}, err
	}
	a, err := c.ask(ctx, kindRequest, call{Route: r.Route, Req: req, Caller: r.Caller, Key: r.Key})
	if err != nil {
		return client.Answer{}, err
	}
	body, err := value(a.Body)
	if err != nil {
		return client.Answer{}, &fault.Error{Kind: fault.Contract, Detail: "the city's answer can't be read", Err: err}
	}
	return client.Answer{Status: a.Status, Body: body, Problem: (*client.Problem)(a.Problem), Header: a.Header, Run: a.Run}, nil
}

// Publish implements client.Client.
func (c *Client) Publish(ctx context.Context, eventType, id string, data any) error {
	b, err := raw(data)
	if err != nil {
		return err
	}
	_, err = c.ask(ctx, kindPublish, call{Event: eventType, ID: id, Data: b})
	return err
}

// Subscribe implements client.Client.
func (c *Client) Subscribe(ctx context.Context, eventType string, after client.Cursor, handle func(context.Context, client.Event) error) error {
	return client.Follow(ctx, c, eventType, after, handle)
}

// Read gives the events behind the cursor, some at a time, and waits for the next
// one where there is none.
func (c *Client) Read(ctx context.Context, eventType string, after client.Cursor) ([]client.Event, error) {
	for {
		a, err := c.ask(ctx, kindRead, call{Event: eventType, After: after})
		if err != nil {
			return nil, err
		}
		out := make([]client.Event, len(a.Events))
		for i, e := range a.Events {
			data, err := value(e.Data)
			if err != nil {
				return nil, &fault.Error{Kind: fault.Contract, Detail: "an event can't be read", Err: fmt.Errorf("reading event %q: %w", e.ID, err)}
			}
			out[i] = client.Event{Cursor: e.Cursor, ID: e.ID, Type: e.Type, Version: e.Version, At: e.At, Data: data}
		}
		if len(out) > 0 {
			return out, nil
		}
	}
}

// Program is a program's client in the city's process; *client.Local is one.
type Program interface {
	client.Client
	Read(ctx context.Context, eventType string, after client.Cursor) ([]client.Event, error)
}

// Handler answers a program's calls with its rights.
func Handler(p Program) func(ctx context.Context, kind string, body []byte) []byte {
	return func(ctx context.Context, kind string, body []byte) []byte {
		a, err := carryOut(ctx, p, kind, body)
		if err != nil {
			f := fault.From(err)
			if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
				f = fault.New(fault.Unavailable, "the city stopped, or took too long")
			}
			a = answer{Fault: &refusal{f.Kind, f.Detail, f.Pointer}}
		}
		b, err := json.Marshal(a)
		if err != nil {
			b = []byte(`{"fault":{"kind":"internal"}}`)
		}
		return b
	}
}

func carryOut(ctx context.Context, p Program, kind string, body []byte) (answer, error) {
	if _, err := schema.DecodeJSON(body); err != nil { // strictly: no key twice
		return answer{}, fault.New(fault.Invalid, "the call is not JSON: %v", err)
	}
	var q call
	if err := json.Unmarshal(body, &q); err != nil {
		return answer{}, fault.New(fault.Invalid, "the call does not have the fields of a %s", kind)
	}
	switch kind {
	case kindRequest:
		return request(ctx, p, q)
	case kindPublish:
		data, err := value(q.Data)
		if err != nil {
			return answer{}, fault.New(fault.Invalid, "the event's data can't be read: %v", err)
		}
		return answer{}, p.Publish(ctx, q.Event, q.ID, data)
	case kindRead:
		ctx, cancel := context.WithTimeout(ctx, readFor)
		defer cancel()
		es, err := p.Read(ctx, q.Event, q.After)
		if errors.Is(err, context.DeadlineExceeded) {
			return answer{}, nil
		}
		if err != nil {
			return answer{}, err
		}
		var a answer
		for _, e := range es {
			data, err := raw(e.Data)
			if err != nil {
				return answer{}, err
			}
			a.Events = append(a.Events, event{e.Cursor, e.ID, e.Type, e.Version, e.At, data})
		}
		return a, nil
	}
	return answer{}, fault.New(fault.Invalid, "the call's type is %q; it can be %s, %s or %s", kind, kindRequest, kindPublish, kindRead)
}

func request(ctx context.Context, p Program, q call) (answer, error) {
	req, err := value(q.Req)
	if err != nil {
		return answer{}, fault.New(fault.Invalid, "the request can't be read: %v", err)
	}
	got, err := p.Request(ctx, client.Request{Route: q.Route, Req: req, Caller: q.Caller, Key: q.Key})
	if err != nil {
		return answer{}, err
	}
	a := answer{Status: got.Status, Problem: (*problem)(got.Problem), Header: got.Header, Run: got.Run}
	if got.Body != nil {
		if a.Body, err = raw(got.Body); err != nil {
			return answer{}, err
		}
	}
	return a, nil
}
