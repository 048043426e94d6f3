package expression

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dime-bus/dime/internal/fault"
)

// Bounds of trust.md, "Expressions".
const (
	MaxSource = 4 << 10 // bytes of an expression
	MaxNodes  = 500     // of its syntax tree
	MaxNested = 32      // levels of its syntax tree
	MaxTime   = 250 * time.Millisecond
	MaxMemory = 32 << 20 // bytes that one evaluation may make, whether it keeps them or not
)

// frame is one evaluation.
type frame struct {
	env    *Env
	locals []any // let names, #, #index, #acc, by slot
	mem    int
	ticks  int
	check  int       // ticks at which to look at the clock again
	start  time.Time // zero until the first look: short evaluations never look
}

// fn is a compiled expression.
type fn func(*frame) (any, error)

const ticksBetweenLooks = 512

var (
	errTime   = fmt.Errorf("the expression takes more than %v", MaxTime)
	errMemory = fmt.Errorf("the expression makes more than %d MiB of values", MaxMemory>>20)
	errShort  = errors.New("optional chain met nil") // never leaves a chain
)

// tick counts n steps of work and fails when the time is over. A step is about
// 10 ns of work or 256 bytes looked at.
func (f *frame) tick(n int) error {
	f.ticks += n
	if f.ticks < f.check {
		return nil
	}
	f.check = f.ticks + ticksBetweenLooks
	// The bound is on the machine's work, so it is the machine's clock that counts,
	// also where the city's clock is virtual.
	now := time.Now()
	if f.start.IsZero() {
		f.start = now
		return nil
	}
	if now.Sub(f.start) > MaxTime {
		return errTime
	}
	return nil
}

// charge counts n bytes that are about to be made.
func (f *frame) charge(n int) error {
	if n < 0 || n > MaxMemory {
		return errMemory
	}
	if f.mem += n; f.mem > MaxMemory {
		return errMemory
	}
	return f.tick(1 + n>>8)
}

// list makes room for a list of n values, counted.
func (f *frame) list(n int) ([]any, error) {
	if err := f.charge(16 * n); err != nil {
		return nil, err
	}
	return make([]any, 0, n), nil
}

// str counts a string that has been made from counted parts.
func (f *frame) str(s string) (any, error) {
	if err := f.charge(len(s)); err != nil {
		return nil, err
	}
	return s, nil
}

// framePool is shared by all expressions; it holds no state between uses.
type framePool struct{ p sync.Pool }

func (p *framePool) get(env *Env, slots int) *frame {
	f, _ := p.p.Get().(*frame)
	if f == nil {
		f = &frame{}
	}
	if cap(f.locals) < slots {
		f.locals = make([]any, slots)
	}
	f.locals = f.locals[:slots]
	f.env, f.check = env, ticksBetweenLooks
	return f
}

func (p *framePool) put(f *frame) {
	clear(f.locals)
	*f = frame{locals: f.locals[:0]}
	p.p.Put(f)
}

// evaluator wraps f: bounds, faults that name the expression, no panics.
func evaluator(src string, f fn, slots int) func(*Env) (any, error) {
	pool := &framePool{}
	return func(env *Env) (v any, err error) {
		fr := pool.get(env, slots)
		defer func() {
			if r := recover(); r != nil {
				// The panic's text may hold a value; the expression tells enough.
				v, err = nil, failure(src, errors.New("it cannot be evaluated"))
			}
			pool.put(fr)
		}()
		v, err = f(fr)
		if err != nil {
			return nil, failure(src, err)
		}
		return v, nil
	}
}

func failure(src string, err error) error {
	var asked *fault.Error
	if errors.As(err, &asked) {
		return err
	}
	return &fault.Error{Kind: fault.Internal, Err: fmt.Errorf("evaluating `%s`: %w", src, err)}
}
