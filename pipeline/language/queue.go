package language

import (
	"strings"

	"github.com/dime-bus/dime/internal/schema"
	"github.com/dime-bus/dime/internal/yamldoc"
)

// maxShort is the longest name and routing key of AMQP 0-9-1 (shortstr, §4.2.1).
const maxShort = 255

// queue reads BROKER/QUEUE, a queue that others declare, or {broker, exchange,
// keys}, what they send through an exchange: a queue of this route's own is bound
// to it. The brokers are named in config/dime.yaml.
func (c *compiler) queue(n *yamldoc.Node, t *Trigger) {
	t.Kind = Queue
	if n.Kind == yamldoc.Map {
		c.exchange(n, t)
		return
	}
	broker, queue, ok := strings.Cut(n.Text, "/")
	if n.Kind != yamldoc.Scalar || !ok || queue == "" {
		c.add(n, "queue", "`queue` is BROKER/QUEUE, a queue that others declare, or {broker: NAME, exchange: NAME, keys: [KEY]}")
		return
	}
	t.Broker, t.Queue = broker, queue
	c.broker(n, broker)
	if len(queue) > maxShort {
		at := *n
		at.Pos = n.At(len(broker) + 1)
		c.add(&at, "queue", "a queue's name has at most %d bytes", maxShort)
	}
	if o := c.h.node.Get("order_by"); o != nil {
		c.add(n, "order", "a route with order_by can't take from a queue of others: several processes would, each at its own pace. Write {broker: %s, exchange: NAME, keys: [KEY]}: the queue that is then bound to their exchange has one taker at a time", broker)
	}
	c.lands(n)
}

func (c *compiler) exchange(n *yamldoc.Node, t *Trigger) {
	c.problems = append(c.problems, n.Unknown("broker", "exchange", "keys")...)
	for _, k := range []string{"broker", "exchange"} {
		if n.Get(k) == nil {
			c.add(n, "field", "`%s` is missing: `queue` is BROKER/QUEUE, or {broker: NAME, exchange: NAME, keys: [KEY]}", k)
			return
		}
	}
	t.Broker, t.Exchange = c.text(n, "broker"), c.text(n, "exchange")
	c.broker(n.Get("broker"), t.Broker)
	switch x := n.Get("exchange"); {
	case t.Exchange == "" && x.Kind == yamldoc.Scalar:
		c.add(x, "queue", "the default exchange can't be bound to; name the queue instead: `queue: %s/QUEUE`", t.Broker)
	case len(t.Exchange) > maxShort:
		c.add(x, "queue", "an exchange's name has at most %d bytes", maxShort)
	}
	t.Keys = []string{"#"} // all of a topic exchange; a fanout ignores it
	if k := n.Get("keys"); k != nil {
		t.Keys = nil
		for _, it := range one(k) {
			switch {
			case it.Kind != yamldoc.Scalar:
				c.add(it, "type", "`keys` is a list of routing keys such as [collected.*], not %s", it.What())
			case len(it.Text) > maxShort:
				c.add(it, "queue", "a routing key has at most %d bytes", maxShort)
			default:
				t.Keys = append(t.Keys, it.Text)
			}
		}
		if k.Kind == yamldoc.List && len(k.Items) == 0 {
			c.add(k, "queue", "`keys` is empty, so nothing would come; leave it out for everything")
		}
	}
	c.lands(n)
}

func (c *compiler) broker(n *yamldoc.Node, name string) {
	if c.l.lenient || contains(c.l.brokers, name) {
		return
	}
	hint := "; none is named there yet"
	if len(c.l.brokers) > 0 {
		hint = schema.DidYouMean(name, c.l.brokers)
	}
	c.add(n, "queue", "there is no broker %q under `brokers` of %s%s", name, dimeFile, hint)
}

// lands: a message that is no JSON or does not fit becomes a dead letter, which
// takes a schema of an object to tell.
func (c *compiler) lands(n *yamldoc.Node) {
	t := c.r.Req.Type()
	switch {
	case c.h.badReq:
	case t == nil:
		c.add(n, "queue", "a message of the queue lands in req, so declare it: `req` is missing")
	case t.Kind != schema.Object:
		c.add(n, "queue", "a message of the queue lands in req, so %s must be the schema of an object", c.r.Req.Name)
	}
}
