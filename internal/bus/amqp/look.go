package amqp

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"
)

// Node is what a broker's node says of itself to who may connect.
type Node struct {
	Address string
	Version string
	Missing bool // it has not the exchanges of the bus, which its administrator loads or the first process declares
	Err     error
}

// Look connects once to each node, with the name of the bus ("dime" if empty), and
// changes nothing.
func Look(ctx context.Context, urls []string, name string) []Node {
	if name == "" {
		name = "dime"
	}
	out := make([]Node, len(urls))
	for i, raw := range urls {
		out[i] = look(ctx, raw, name)
	}
	return out
}

func look(ctx context.Context, raw, name string) (n Node) {
	uri, err := amqp091.ParseURI(raw)
	if err != nil { // it may show the password
		n.Address, n.Err = "?", fmt.Errorf("the URL of the bus can't be read; the form is amqps://user@host:5671/vhost")
		return n
	}
	n.Address = net.JoinHostPort(uri.Host, strconv.Itoa(uri.Port))
	p := amqp091.NewConnectionProperties()
	p.SetClientConnectionName(name + " doctor")
	within := dialFor
	if at, ok := ctx.Deadline(); ok {
		within = min(within, time.Until(at))
	}
	conn, err := amqp091.DialConfig(raw, amqp091.Config{Heartbeat: heartbeat, Dial: amqp091.DefaultDial(within), Properties: p})
	if err != nil {
		n.Err = fmt.Errorf("connecting: %w", err)
		return n
	}
	defer func() { _ = conn.Close() }()
	n.Version, _ = conn.Properties["version"].(string)
	ch, err := conn.Channel()
	if err != nil {
		n.Err = fmt.Errorf("opening a channel: %w", err)
		return n
	}
	err = ch.ExchangeDeclarePassive(name+".in", amqp091.ExchangeTopic, true, false, false, false, nil)
	switch {
	case code(err) == amqp091.NotFound:
		n.Missing = true
	case err != nil:
		n.Err = fmt.Errorf("looking for the exchange %s.in: %w", name, err)
	}
	return n
}
