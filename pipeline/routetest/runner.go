package routetest

import (
	"context"
	"fmt"
	"regexp"
	"runtime"
	"sync"
	"time"

	"github.com/dime-bus/dime/internal/store"
	"github.com/dime-bus/dime/pipeline/language"
)

const defaultHorizon = 100 * 24 * time.Hour

// job is one case on its way.
type job struct {
	file *File
	c    *Case
	st   *stage
	res  *Result
	seen *reached
	err  error
	done chan struct{}
}

func runAll(ctx context.Context, city *language.City, files []*File, o Options) (Report, error) {
	var report Report
	match, err := regexp.Compile(o.Match)
	if err != nil {
		return report, fmt.Errorf("reading the pattern of tests to run: %w", err)
	}
	if o.Horizon <= 0 {
		o.Horizon = defaultHorizon
	}
	if o.Parallel <= 0 {
		o.Parallel = runtime.GOMAXPROCS(0)
	}
	var jobs []*job
	for _, f := range files {
		st := stageOf(city, f.Route)
		for _, c := range f.Cases {
			if match.MatchString(f.Route.Name + ": " + c.It) {
				jobs = append(jobs, &job{file: f, c: c, st: st, seen: newReached(), done: make(chan struct{})})
			}
		}
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	queue := make(chan *job)
	var workers sync.WaitGroup
	for range min(o.Parallel, max(len(jobs), 1)) {
		workers.Go(func() {
			for j := range queue {
				j.run(ctx, o)
				close(j.done)
			}
		})
	}
	go func() {
		for _, j := range jobs {
			queue <- j
		}
		close(queue)
	}()
	defer workers.Wait()
	cover := newCoverage()
	for _, j := range jobs {
		<-j.done
		if j.err != nil {
			stop()
			if err == nil {
				err = fmt.Errorf("running %s %q: %w", j.file.Path, j.c.It, j.err)
			}
			continue
		}
		report.Cases = append(report.Cases, j.res)
		if j.res.OK {
			report.Passed++
		} else {
			report.Failed++
		}
		cover.add(j.file.Route, j.seen)
		if o.Each != nil {
			o.Each(j.res)
		}
	}
	report.Coverage = cover.report()
	return report, err
}

// run runs every variant of the case. After a variant that failed no further one
// is run: they would say the same.
func (j *job) run(ctx context.Context, o Options) {
	p := j.c.Pos
	j.res = &Result{File: p.File, Line: p.Line, Column: p.Column, Route: j.file.Route.Name, It: j.c.It, Seed: seedOf(j.c, o)}
	var first time.Duration
	parked := false // in a variant without a crash
	var commits []point
	one := func(v variant) bool {
		v.truthful = v.crash != nil && !parked
		if j.err = ctx.Err(); j.err != nil {
			return false
		}
		obs, s, err := play(ctx, j.st, j.c, v, o)
		if err != nil {
			j.err = err
			return false
		}
		if v.crash != nil && !s.deaths.died() {
			return true // this time no such commit came: nothing was proved
		}
		j.res.Variants++
		commits = s.deaths.points()
		if j.res.Variants == 1 {
			first = s.last.Sub(s.start)
		}
		for _, d := range obs.runs {
			parked = parked || d.State == string(store.Parked)
		}
		j.seen.add(j.st, obs)
		fs := judge(j.c.then, obs)
		if len(fs) > 0 {
			fs[0].Timeline = s.timeline(obs)
		}
		for i := range fs {
			fs[i].Variant = v.name
		}
		j.res.Failures = append(j.res.Failures, fs...)
		return len(fs) == 0
	}
	j.variants(one, &commits)
	j.res.Duration, j.res.OK = first, len(j.res.Failures) == 0
}

// variants runs the case alone or as `send` and `crash` ask; commits are those of
// the latest variant.
func (j *job) variants(one func(variant) bool, commits *[]point) {
	base := variant{}
	if j.c.send > 1 {
		base.name = fmt.Sprintf("sent %d times together", j.c.send)
	}
	if !one(base) {
		return
	}
	points := *commits
	if j.c.send > 1 && !one(variant{name: fmt.Sprintf("sent %d times, one after the other", j.c.send), sequential: true}) {
		return
	}
	if !j.c.crash {
		return
	}
	for _, p := range points {
		for _, after := range []bool{false, true} {
			p.after = after
			if !one(variant{name: p.String(), crash: &p}) {
				return
			}
		}
	}
}
