package amqp

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	watermillamqp "github.com/ThreeDotsLabs/watermill-amqp/v3/pkg/amqp"
	"github.com/ThreeDotsLabs/watermill/message"
	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/dime-bus/dime/internal/bus"
)

// Headers of ours on a message that waits in the broker for its next delivery or
// was parked. They are strings, as watermill-amqp asks of every header.
const (
	headerTopic    = "_dime_topic"    // the routing key that it was published with
	headerAttempts = "_dime_attempts" // deliveries before it was put back
	headerReason   = "_dime_reason"   // why it was parked
)

// maxMeta is how many bytes of metadata a message may have: all of it is one header
// frame, and 131,072 is RabbitMQ's frame-max; a longer one would cost all who share
// the connection their channel (AMQP 0-9-1 §4.2.6).
const maxMeta = 64 << 10

// maxShort is a shortstr's longest (AMQP 0-9-1 §4.2.5.3).
const maxShort = 255

// maxReason leaves room for what the message came with.
const maxReason = 2 << 10

// marshal is watermill-amqp's wire form, with the AMQP properties that other
// people's programs and the broker's own tools look at.
func marshal(m *message.Message, now time.Time) (amqp091.Publishing, error) {
	p, err := watermillamqp.DefaultMarshaler{}.Marshal(m)
	if err != nil {
		return p, err
	}
	p.MessageId = m.UUID
	p.Type = m.Metadata.Get(bus.MetaType)
	for _, s := range []string{p.MessageId, p.Type} {
		if len(s) > maxShort {
			return p, fmt.Errorf("an id or a type has %d bytes, %d fit", len(s), maxShort)
		}
	}
	n := 0
	for k, v := range m.Metadata {
		if len(k) > maxShort {
			return p, fmt.Errorf("a key of the metadata has %d bytes, %d fit", len(k), maxShort)
		}
		n += len(k) + len(v) + 6 // their lengths and the type
	}
	if n > maxMeta {
		return p, fmt.Errorf("the metadata has %d bytes, %d fit", n, maxMeta)
	}
	p.Timestamp = now
	if t := m.Metadata.Get(bus.MetaTime); t == "" {
		p.Headers[bus.MetaTime] = now.UTC().Format(time.RFC3339Nano)
	}
	return p, nil
}

// received is a delivery as a message, its topic, and how often it was delivered
// before.
func received(dv amqp091.Delivery) (m *message.Message, topic string, attempts int, err error) {
	attempts = deliveries(dv.Headers)
	topic = topicOf(dv)
	if !plain(dv.Headers) {
		dv.Headers = readable(dv.Headers)
	}
	m, err = watermillamqp.DefaultMarshaler{}.Unmarshal(dv)
	if err != nil {
		return nil, topic, attempts, err
	}
	if m.UUID == "" {
		m.UUID = dv.MessageId
	}
	if m.UUID == "" { // a publisher without ids: no two deliveries are told to be one
		m.UUID = watermill.NewUUID()
	}
	if m.Metadata.Get(bus.MetaType) == "" {
		m.Metadata.Set(bus.MetaType, topic)
	}
	if m.Metadata.Get(bus.MetaTime) == "" {
		at := dv.Timestamp
		if at.IsZero() {
			at = time.Now()
		}
		m.Metadata.Set(bus.MetaTime, at.UTC().Format(time.RFC3339Nano))
	}
	return m, topic, attempts, nil
}

// plain says whether headers are as Dime publishes them: nothing but metadata.
func plain(h amqp091.Table) bool {
	for k, v := range h {
		if _, ok := v.(string); !ok || strings.HasPrefix(k, "x-first-death-") || k == headerTopic || k == headerAttempts || k == headerReason {
			return false
		}
	}
	return true
}

// readable are the headers that are metadata, as watermill-amqp reads them.
func readable(all amqp091.Table) amqp091.Table {
	headers := make(amqp091.Table, len(all)+1)
	for k, v := range all {
		switch k {
		case headerTopic, headerAttempts, headerReason:
			continue
		}
		switch v := v.(type) {
		case string:
			headers[k] = v
		case bool, int8, uint8, int16, uint16, int32, uint32, int64, float32, float64:
			// watermill-amqp refuses what is no string: x-delivery-count, and other
			// programs' numbers. The broker's own are no metadata.
			if !strings.HasPrefix(k, "x-") {
				headers[k] = fmt.Sprint(v)
			}
		case time.Time:
			headers[k] = v.UTC().Format(time.RFC3339)
		}
	}
	for k := range headers {
		if strings.HasPrefix(k, "x-first-death-") {
			delete(headers, k)
		}
	}
	return headers
}

// named says whether the publisher gave the message an id.
func named(dv amqp091.Delivery) bool {
	id, _ := dv.Headers[watermillamqp.DefaultMessageUUIDHeaderKey].(string)
	return id != "" || dv.MessageId != ""
}

func topicOf(dv amqp091.Delivery) string {
	if s, ok := dv.Headers[headerTopic].(string); ok {
		return s
	}
	return dv.RoutingKey
}

// deliveries counts those before this one: ours since the message was last put
// back into the ladder, and the broker's since then.
func deliveries(h amqp091.Table) int {
	n := 0
	if s, ok := h[headerAttempts].(string); ok {
		n, _ = strconv.Atoi(s)
	}
	return n + lost(h)
}

// lost counts the deliveries of this message, as it lies in its queue, that ended
// with their channel or were given back. Classic queues do not count.
func lost(h amqp091.Table) int {
	switch c := h["x-delivery-count"].(type) {
	case int64:
		return int(c)
	case int32:
		return int(c)
	}
	return 0
}

// again is a delivery to be published once more, to a rung or a parked queue.
func again(dv amqp091.Delivery, attempts int, reason string) amqp091.Publishing {
	h := maps.Clone(dv.Headers)
	if h == nil {
		h = make(amqp091.Table)
	}
	for k := range h {
		if strings.HasPrefix(k, "x-") { // the broker writes its own anew
			delete(h, k)
		}
	}
	h[headerTopic] = topicOf(dv)
	h[headerAttempts] = strconv.Itoa(attempts)
	if reason != "" {
		h[headerReason] = strings.ToValidUTF8(reason[:min(len(reason), maxReason)], "")
	}
	return amqp091.Publishing{
		Headers: h, ContentType: dv.ContentType, ContentEncoding: dv.ContentEncoding, DeliveryMode: amqp091.Persistent,
		CorrelationId: dv.CorrelationId, ReplyTo: dv.ReplyTo, MessageId: dv.MessageId, Timestamp: dv.Timestamp,
		Type: dv.Type, AppId: dv.AppId, Body: dv.Body,
	}
}
