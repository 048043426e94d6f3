package storetest

import (
	"fmt"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dime-bus/dime/internal/store"
)

func queueTests() []entry {
	return []entry{
		{"each queue gets a copy of what was published since it was bound", queueCopies},
		{"what was not settled comes again after a crash, and only that", queueCrash},
		{"a run and its delivery are one commit", queueAccept},
		{"a returned message is due at its instant and remembers", queueAgain},
		{"a parked message waits for a person", queueParked},
		{"messages given back keep their place", queueUnreceive},
		{"a queue that falls far behind loses nothing and keeps its order", queueBehind},
		{"the log is read by cursor", queueLog},
		{"an id that is published again is one message, after a crash too", queueRepeat},
		{"publishers and receivers at once", queueRace},
		{"ready is heard before the publisher is answered", queueReady},
	}
}

func (k *kit) publish(topic string, ids ...string) {
	k.Helper()
	ms := make([]store.Message, len(ids))
	for i, id := range ids {
		ms[i] = store.Message{ID: id, Topic: topic, Body: []byte("body " + id), Meta: map[string]string{"key": id}}
	}
	k.must(k.Store.Publish(k.ctx, ms...))
}

func (k *kit) receive(queue string, max int, want ...string) []store.Message {
	k.Helper()
	ms, err := k.Store.Receive(k.ctx, queue, max)
	k.must(err)
	var got []string
	for _, m := range ms {
		got = append(got, m.ID)
		if string(m.Body) != "body "+m.ID || m.Meta["key"] != m.ID || m.Topic == "" || m.Seq == 0 {
			k.Fatalf("message %+v", m)
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		k.Fatalf("received from %s (-want +got):\n%s", queue, d)
	}
	return ms
}

func (k *kit) settle(queue string, ms ...store.Message) {
	k.Helper()
	var acks []store.Ack
	for _, m := range ms {
		acks = append(acks, store.Ack{Queue: queue, ID: m.Seq})
	}
	k.must(k.Store.Settle(k.ctx, acks...))
}

func (k *kit) depth(queue string, want int) {
	k.Helper()
	if n, err := k.Store.Depth(k.ctx, queue); err != nil || n != want {
		k.Fatalf("%s holds %d, %v; want %d", queue, n, err, want)
	}
}

func queueCopies(k *kit) {
	k.publish("a.x", "0")
	k.must(k.Store.Bind(k.ctx, "exact", "a.x"))
	k.must(k.Store.Bind(k.ctx, "prefix", "a.*"))
	k.must(k.Store.Bind(k.ctx, "all", "*"))
	k.must(k.Store.Bind(k.ctx, "two", "a.x", "b"))
	k.must(k.Store.Bind(k.ctx, "exact", "a.x"))
	k.publish("a.x", "1")
	k.publish("a.y.z", "2")
	k.publish("b", "3")
	k.publish("ab", "4")
	k.depth("all", 4)
	k.receive("exact", 10, "1")
	k.receive("prefix", 10, "1", "2")
	k.receive("all", 3, "1", "2", "3")
	k.receive("all", 3, "4")
	k.receive("two", 10, "1", "3")
	k.depth("all", 4)
	// A topic that is added later counts from then on.
	k.must(k.Store.Bind(k.ctx, "exact", "b"))
	k.publish("b", "5")
	k.receive("exact", 10, "5")
	k.crash()
	k.receive("exact", 10, "1", "5")
	k.receive("two", 10, "1", "3", "5")
	if err := k.Store.Publish(k.ctx, store.Message{ID: "x"}); err == nil {
		k.Fatal("published to no topic")
	}
	if _, err := k.Store.Receive(k.ctx, "nobody", 1); err == nil {
		k.Fatal("received from no queue")
	}
}

func queueCrash(k *kit) {
	k.must(k.Store.Bind(k.ctx, "q", "t"))
	k.publish("t", "1", "2", "3", "4", "5")
	ms := k.receive("q", 4, "1", "2", "3", "4")
	k.receive("q", 4, "5")
	k.settle("q", ms[3], ms[1]) // out of order
	k.crash()
	again := k.receive("q", 10, "1", "3", "5")
	if again[0].Attempts != 1 || again[1].Attempts != 1 {
		k.Fatalf("attempts %d and %d: who takes the process down is never parked", again[0].Attempts, again[1].Attempts)
	}
	k.settle("q", again...)
	k.settle("q", again...) // twice does nothing
	k.depth("q", 0)
	k.crash()
	k.publish("t", "6")
	k.settle("q", k.receive("q", 10, "6")...)
	k.crash()
	k.receive("q", 10)
}

func queueAccept(k *kit) {
	k.must(k.Store.Bind(k.ctx, "q", "t"))
	k.publish("t", "1", "2")
	ms := k.receive("q", 10, "1", "2")
	r := k.run()
	r.Once = &store.Once{Scope: "m", Key: "1", BodyHash: []byte{1}, Until: Start().Add(time.Hour)}
	r.Ack = &store.Ack{Queue: "q", ID: ms[0].Seq}
	k.accept(r)
	k.depth("q", 1)      // settled by the accepting commit alone,
	k.settle("q", ms[0]) // so the message's own ack after it does nothing
	refused := k.run()
	refused.Once = r.Once
	refused.Ack = &store.Ack{Queue: "q", ID: ms[1].Seq}
	if _, _, err := k.Store.Accept(k.ctx, refused); err == nil {
		k.Fatal("a duplicate was accepted")
	}
	k.depth("q", 1) // what a refused run brought is not settled
	k.crash()
	k.claimed("w", r.ID)
	k.receive("q", 10, "2")
}

func queueAgain(k *kit) {
	k.must(k.Store.Bind(k.ctx, "q", "t"))
	k.publish("t", "1", "2")
	ms := k.receive("q", 1, "1")
	k.must(k.Store.Again(k.ctx, store.Ack{Queue: "q", ID: ms[0].Seq}, Start().Add(time.Minute)))
	k.settle("q", k.receive("q", 10, "2")...)
	woken := 0
	k.Store.OnReady("q", func() { woken++ })
	k.receive("q", 10)
	k.pass(time.Minute)
	if woken != 1 {
		k.Fatalf("woken %d times when it was due", woken)
	}
	ms = k.receive("q", 10, "1")
	if ms[0].Attempts != 1 {
		k.Fatalf("%d attempts", ms[0].Attempts)
	}
	k.must(k.Store.Again(k.ctx, store.Ack{Queue: "q", ID: ms[0].Seq}, k.Clock.Now().Add(time.Minute)))
	k.crash()
	k.receive("q", 10)
	k.depth("q", 1)
	k.pass(time.Minute)
	ms = k.receive("q", 10, "1")
	if ms[0].Attempts != 2 {
		k.Fatalf("%d attempts after a crash", ms[0].Attempts)
	}
	k.settle("q", ms...)
	k.crash()
	k.receive("q", 10)
	k.depth("q", 0)
}

func queueParked(k *kit) {
	k.must(k.Store.Bind(k.ctx, "q", "t"))
	k.publish("t", "1", "2")
	ms := k.receive("q", 10, "1", "2")
	k.must(k.Store.ParkMessage(k.ctx, store.Ack{Queue: "q", ID: ms[0].Seq}, "no such person"))
	k.settle("q", ms[1])
	k.crash()
	k.receive("q", 10)
	k.depth("q", 0)
	parked, err := k.Store.Parked(k.ctx, "q")
	k.must(err)
	if len(parked) != 1 || parked[0].ID != "1" || parked[0].Reason != "no such person" || string(parked[0].Body) != "body 1" || parked[0].Attempts != 1 {
		k.Fatalf("parked %+v", parked)
	}
	a := store.Ack{Queue: "q", ID: parked[0].Seq}
	k.must(k.Store.Unpark(k.ctx, a))
	if err := k.Store.Unpark(k.ctx, a); err == nil {
		k.Fatal("taken up twice")
	}
	k.crash()
	ms = k.receive("q", 10, "1")
	if ms[0].Attempts != 0 {
		k.Fatalf("%d attempts", ms[0].Attempts)
	}
	if parked, _ = k.Store.Parked(k.ctx, "q"); len(parked) != 0 {
		k.Fatalf("still parked: %v", parked)
	}
}

func queueUnreceive(k *kit) {
	k.must(k.Store.Bind(k.ctx, "q", "t"))
	k.publish("t", "1", "2", "3", "4")
	ms := k.receive("q", 3, "1", "2", "3")
	k.settle("q", ms[0])
	k.must(k.Store.Unreceive(k.ctx, store.Ack{Queue: "q", ID: ms[2].Seq}, store.Ack{Queue: "q", ID: ms[1].Seq}))
	ms = k.receive("q", 10, "2", "3", "4")
	if ms[0].Attempts != 0 {
		k.Fatalf("%d attempts", ms[0].Attempts)
	}
	k.must(k.Store.Unreceive(k.ctx, store.Ack{Queue: "q", ID: ms[0].Seq}))
	k.settle("q", ms...) // a late ack still counts
	k.receive("q", 10)
	k.crash()
	k.receive("q", 10)
}

func queueBehind(k *kit) {
	k.must(k.Store.Bind(k.ctx, "q", "t.*"))
	const n = 6000
	for i := 0; i < n; i += 100 {
		ms := make([]store.Message, 0, 200)
		for j := i; j < i+100; j++ {
			ms = append(ms, store.Message{ID: fmt.Sprint(j), Topic: fmt.Sprintf("t.%d", j%3)}, store.Message{ID: "no", Topic: "u"})
		}
		k.must(k.Store.Publish(k.ctx, ms...))
	}
	k.depth("q", n)
	next := 0
	take := func(upTo int) {
		k.Helper()
		for next < upTo {
			ms, err := k.Store.Receive(k.ctx, "q", 500)
			k.must(err)
			if len(ms) == 0 {
				k.Fatalf("nothing more after %d", next)
			}
			for _, m := range ms {
				if m.ID != fmt.Sprint(next) {
					k.Fatalf("received %s, want %d", m.ID, next)
				}
				next++
			}
			k.settle("q", ms...)
		}
	}
	take(3000)
	k.crash()
	take(n)
	k.must(k.Store.Publish(k.ctx, store.Message{ID: fmt.Sprint(n), Topic: "t.0"}))
	take(n + 1)
	k.depth("q", 0)
}

func queueLog(k *kit) {
	for i := range 10 {
		k.publish([]string{"a", "b"}[i%2], fmt.Sprint(i))
	}
	var got []string
	for after := int64(0); ; {
		ms, err := k.Store.Log(k.ctx, "a", after, 2)
		k.must(err)
		if len(ms) == 0 {
			break
		}
		for _, m := range ms {
			got = append(got, m.ID)
			after = m.Seq
		}
		k.crash()
	}
	if d := cmp.Diff([]string{"0", "2", "4", "6", "8"}, got); d != "" {
		k.Fatal(d)
	}
	if ms, err := k.Store.Log(k.ctx, "nothing", 0, 10); err != nil || len(ms) != 0 {
		k.Fatal(ms, err)
	}
}

func queueRepeat(k *kit) {
	k.must(k.Store.Bind(k.ctx, "q", "a", "b"))
	k.publish("a", "1", "2", "1")
	k.publish("a", "2", "3")
	k.publish("b", "1")
	k.publish("a", "", "")
	k.crash()
	k.publish("a", "4", "3", "2")
	k.publish("a", "1")
	k.receive("q", 20, "1", "2", "3", "1", "", "", "4")
	ms, err := k.Store.Log(k.ctx, "a", 0, 20)
	k.must(err)
	var got []string
	for _, m := range ms {
		got = append(got, m.ID)
	}
	if d := cmp.Diff([]string{"1", "2", "3", "", "", "4"}, got); d != "" {
		k.Fatal(d)
	}
	// Publishers of the same id at once, in one commit or in several.
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if err := k.Store.Publish(k.ctx, store.Message{ID: "same", Topic: "a"}); err != nil {
				k.Error(err)
			}
		})
	}
	wg.Wait()
	k.depth("q", 8) // with the seven in hand
	// What lies further back than the window is a new message.
	many := make([]store.Message, store.RepeatWindow)
	for i := range many {
		many[i] = store.Message{ID: fmt.Sprint("m", i), Topic: "c"}
	}
	k.must(k.Store.Publish(k.ctx, many[1:]...))
	k.publish("a", "same")
	k.depth("q", 8)
	k.must(k.Store.Publish(k.ctx, many[0]))
	k.publish("a", "same")
	k.depth("q", 9)
}

func queueRace(k *kit) {
	const publishers, each, receivers = 6, 60, 3
	k.must(k.Store.Bind(k.ctx, "q", "t"))
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := make(map[string]int)
	for p := range publishers {
		wg.Go(func() {
			for i := range each {
				if err := k.Store.Publish(k.ctx, store.Message{ID: fmt.Sprintf("%d/%d", p, i), Topic: "t"}); err != nil {
					k.Error(err)
				}
			}
		})
	}
	for range receivers {
		wg.Go(func() {
			for {
				ms, err := k.Store.Receive(k.ctx, "q", 7)
				if err != nil {
					k.Error(err)
					return
				}
				mu.Lock()
				for _, m := range ms {
					seen[m.ID]++
				}
				done := len(seen) == publishers*each
				mu.Unlock()
				for _, m := range ms {
					if err := k.Store.Settle(k.ctx, store.Ack{Queue: "q", ID: m.Seq}); err != nil {
						k.Error(err)
					}
				}
				if done || k.Failed() {
					return
				}
			}
		})
	}
	wg.Wait()
	for id, n := range seen {
		if n != 1 {
			k.Errorf("%s was received %d times", id, n)
		}
	}
	k.crash()
	k.receive("q", 10)
	k.depth("q", 0)
}

func queueReady(k *kit) {
	n := 0
	stop := k.Store.OnReady("q", func() { n++ }) // before it is bound
	c := k.Store.Ready("q")
	for len(c) > 0 {
		<-c
	}
	k.must(k.Store.Bind(k.ctx, "q", "t"))
	k.publish("t", "1", "2")
	k.publish("u", "3")
	if n != 1 || len(c) != 1 {
		k.Fatalf("heard %d times, %d in the channel", n, len(c))
	}
	stop()
	k.publish("t", "4")
	if n != 1 {
		k.Fatal("heard after stop")
	}
}
