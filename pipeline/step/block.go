package step

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/dime-bus/dime/internal/fault"
	"github.com/dime-bus/dime/pipeline/language"
)

// block runs the items of an each or the branches of an all (semantics 5.8).
type block struct {
	s        *language.Step
	path     string
	lanes    []lane
	parallel int
	need     int
	cut      bool // all: when the need is met the others start no further step
	memory   *Memory

	mu     sync.Mutex
	next   int
	done   int
	failed int
	met    bool
	known  bool // the journal says that it was met, and by whom
	over   bool // an end or a control error: no lane starts
	cancel context.CancelFunc
	ending Outcome
	err    error
	first  *Ending  // of the first lane that failed
	ends   []string // the steps that ended all lanes that failed
}

type laneState uint8

const (
	waiting laneState = iota // not begun
	running
	succeeded
	lost
	rested
	surplus
)

type lane struct {
	name, marker string
	steps        sequence
	frame        func() *Frame
	state        laneState
	value        any
	wake         time.Time
}

func (b *block) run(ctx context.Context, f *Frame) (Outcome, error) {
	if f.Fx.Collecting() {
		return b.collect(ctx, f)
	}
	ctx, b.cancel = context.WithCancel(ctx)
	defer b.cancel()
	b.recall(f)
	if n := min(b.parallel, len(b.lanes)); n > 1 {
		f.Fx.Fork(n, func(int) { b.work(ctx, f) })
	} else {
		b.work(ctx, f)
	}
	if b.err != nil || b.ending.Kind == End {
		return b.ending, b.err
	}
	return b.join(ctx, f)
}

// recall takes from the journal what was decided about lanes before.
func (b *block) recall(f *Frame) {
	if b.memory != nil && b.memory.Winners != nil {
		b.met, b.known = true, true
	}
	for i := range b.lanes {
		l := &b.lanes[i]
		if m := f.Fx.Recall(l.marker); m != nil && m.Failed != nil {
			at := m.At
			if len(at) == 0 {
				at = []string{l.marker}
			}
			b.lose(l, &Ending{Fault: m.Failed, Path: at[0], Also: at[1:]})
		}
		if b.met && !slices.Contains(b.memory.Winners, l.name) && l.state == waiting {
			l.state = surplus
		}
	}
}

// lose books a lane that failed; b.mu is held, or no lane has begun.
func (b *block) lose(l *lane, e *Ending) {
	l.state = lost
	b.failed++
	if b.first == nil {
		b.first = e
	}
	b.ends = append(append(b.ends, e.Path), e.Also...)
}

// take gives a worker its next lane, in order; nil when none may start.
func (b *block) take() *lane {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over || len(b.lanes)-b.failed < b.need {
		return nil
	}
	for b.next < len(b.lanes) {
		l := &b.lanes[b.next]
		if l.state == waiting && b.cut && b.met && !b.known {
			return nil
		}
		b.next++
		if l.state == waiting {
			l.state = running
			return l
		}
	}
	return nil
}

func (b *block) stopped() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.over || b.cut && b.met && !b.known
}

// work runs lanes until none is left or one rests: a resting lane keeps its place
// among the parallel ones.
func (b *block) work(ctx context.Context, f *Frame) {
	for {
		l := b.take()
		if l == nil {
			return
		}
		g := l.frame()
		outer := g.stop
		g.stop = func() bool { return outer != nil && outer() || b.stopped() }
		out, err := l.steps.run(ctx, g)
		if b.ended(f, l, out, err) {
			return
		}
	}
}

// ended books a lane's outcome and says whether its worker stops.
func (b *block) ended(f *Frame, l *lane, out Outcome, err error) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case err != nil:
		b.over = true
		if b.err == nil {
			b.err = err
		}
		return true
	case out.Kind == Go:
		l.state, l.value = succeeded, out.Value
		b.done++
		if b.cut && !b.met && b.done >= b.need && b.need < len(b.lanes) {
			b.met = true
			var names []string
			for i := range b.lanes {
				if b.lanes[i].state == succeeded {
					names = append(names, b.lanes[i].name)
				}
			}
			f.Fx.Note(Note{Path: b.path, Winners: names})
			b.cancel()
		}
		return false
	case b.met && b.cut:
		l.state = surplus // cut off, whatever it came to
		return true
	case out.Kind == Rest:
		l.state, l.wake = rested, out.Wake
		return true
	case out.Ending.Failed():
		b.lose(l, out.Ending)
		flt := out.Ending.Fault
		if flt == nil {
			flt = fault.New(fault.Rejected, "%s", out.Ending.Reason)
			flt.Name = out.Ending.Reason
		}
		if b.need < len(b.lanes) {
			f.Fx.Note(Note{Path: l.marker, Failed: flt, At: append([]string{out.Ending.Path}, out.Ending.Also...)})
		}
		return false
	}
	b.over = true
	if b.ending.Kind != End {
		b.ending = out
	}
	return true
}

// join decides after all workers have stopped.
func (b *block) join(ctx context.Context, f *Frame) (Outcome, error) {
	resting := Outcome{Kind: Rest}
	open := false
	for i := range b.lanes {
		l := &b.lanes[i]
		if l.state == waiting && b.met && b.cut {
			l.state = surplus
		}
		if l.state == rested && b.met && b.cut {
			l.state = surplus
		}
		if l.state != rested && l.state != waiting && l.state != running {
			continue
		}
		if l.state == rested {
			open = true
			if !l.wake.IsZero() && (resting.Wake.IsZero() || l.wake.Before(resting.Wake)) {
				resting.Wake = l.wake
			}
		}
	}
	if open {
		return resting, nil
	}
	if len(b.lanes)-b.failed < b.need {
		e := *b.first
		e.Also = slices.DeleteFunc(b.ends, func(p string) bool { return p == e.Path })
		return Outcome{Kind: End, Ending: &e}, nil
	}
	if f.stop != nil && f.stop() {
		return resting, nil
	}
	// What failed or is too much leaves nothing behind, and its value is nil.
	for i := range b.lanes {
		l := &b.lanes[i]
		if l.state != lost && l.state != surplus {
			continue
		}
		out, err := f.Fx.UndoBelow(ctx, l.marker+"/")
		if err != nil || out.Kind != Go {
			return out, err
		}
	}
	return Outcome{}, nil
}

// collect walks every lane for what it did.
func (b *block) collect(ctx context.Context, f *Frame) (Outcome, error) {
	whole := true
	for i := range b.lanes {
		l := &b.lanes[i]
		out, err := l.steps.run(ctx, l.frame())
		if err != nil {
			return out, err
		}
		if out.Kind == Go {
			l.value = out.Value
		} else {
			whole = false
		}
	}
	if b.memory != nil && b.memory.Joined {
		switch v := b.memory.Value.(type) {
		case []any:
			for i := range min(len(v), len(b.lanes)) {
				b.lanes[i].value = v[i]
			}
		case map[string]any:
			for i := range b.lanes {
				b.lanes[i].value = v[b.lanes[i].name]
			}
		}
		return Outcome{}, nil
	}
	if !whole {
		return Outcome{Kind: Rest}, nil
	}
	return Outcome{}, nil
}
