// Package telemetry owns metrics and the log's shape. Metric names and label
// sets are a contract: dashboards and alerts hang on them, a test holds them, and
// no label ever carries a value of a person or of a request.
package telemetry

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics are all that Dime counts. Its methods take plain types, never block
// and may be called at once from anywhere.
type Metrics struct {
	registry *prometheus.Registry

	requests        *prometheus.CounterVec
	requestSeconds  *prometheus.HistogramVec
	started         *prometheus.CounterVec
	ended           *prometheus.CounterVec
	runSeconds      *prometheus.HistogramVec
	attempts        *prometheus.CounterVec
	attemptSeconds  *prometheus.HistogramVec
	deferrals       *prometheus.CounterVec
	events          *prometheus.CounterVec
	woken           *prometheus.CounterVec
	commits         *prometheus.CounterVec
	commitSeconds   prometheus.Histogram
	reloads         *prometheus.CounterVec
	reloaded        prometheus.Gauge
	reloadSuccess   prometheus.Gauge
	routeVersion    *prometheus.GaugeVec
	routeVersionsMu sync.Mutex

	perRequest sync.Map // requestKey -> *series
	perStart   sync.Map // route -> prometheus.Counter
	perEnd     sync.Map // runKey -> *series
	perAttempt sync.Map // attemptKey -> *series
}

// Version is what dime_build_info says.
type Version struct{ Version, Commit string }

// New makes all metrics, in a registry of their own.
func New(v Version) *Metrics {
	fast := []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	long := []float64{.01, .1, 1, 10, 60, 600, 3600, 6 * 3600, 86400, 7 * 86400, 30 * 86400}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "dime_" + name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "dime_" + name, Help: help, Buckets: buckets}, labels)
	}
	m := &Metrics{
		registry:       prometheus.NewRegistry(),
		requests:       counter("http_requests_total", "Answers of the public face, by route (empty: no route) and status.", "route", "status"),
		requestSeconds: histogram("http_request_seconds", "Time to answer, by route.", fast, "route"),
		started:        counter("runs_started_total", "Runs begun, by route.", "route"),
		ended:          counter("runs_ended_total", "Runs that ended or were parked, by route and state.", "route", "state"),
		runSeconds:     histogram("run_seconds", "Life of a run, by route.", long, "route"),
		attempts:       counter("operation_attempts_total", "Attempts of an operation, by target and fault (empty: success).", "operation", "fault"),
		attemptSeconds: histogram("operation_attempt_seconds", "Time of one attempt, by target.", fast, "operation"),
		deferrals:      counter("deferrals_total", "Steps put off after a transient fault, by route and target.", "route", "operation"),
		events:         counter("events_total", "Events received by the engine, by type.", "type"),
		woken:          counter("events_woke_runs_total", "Runs woken by events, by type.", "type"),
		commits:        counter("journal_commits_total", "Commits of the journal, by the kind of their last record.", "kind"),
		commitSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "dime_journal_commit_seconds",
			Help: "Time until a commit is durable.", Buckets: fast}),
		reloads: counter("reloads_total", "Reloads of the content, by result (ok, refused).", "result"),
		reloaded: prometheus.NewGauge(prometheus.GaugeOpts{Name: "dime_reload_last_success_timestamp_seconds",
			Help: "When the content in force was loaded."}),
		reloadSuccess: prometheus.NewGauge(prometheus.GaugeOpts{Name: "dime_reload_last_ok",
			Help: "1 if the last reload succeeded, 0 if it was refused."}),
		routeVersion: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "dime_route_version",
			Help: "The label of the version in force, by route and digest."}, []string{"route", "digest"}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{Name: "dime_build_info", Help: "1, with what is running.",
		ConstLabels: prometheus.Labels{"version": v.Version, "commit": v.Commit, "go": runtime.Version()}})
	build.Set(1)
	m.registry.MustRegister(m.requests, m.requestSeconds, m.started, m.ended, m.runSeconds, m.attempts, m.attemptSeconds,
		m.deferrals, m.events, m.woken, m.commits, m.commitSeconds, m.reloads, m.reloaded, m.reloadSuccess, m.routeVersion, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Handler serves the metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{EnableOpenMetrics: true, MaxRequestsInFlight: 4})
}

// series are the resolved metrics of two labels: looking labels up costs more
// than counting.
type series struct {
	count prometheus.Counter
	took  prometheus.Observer
}

type requestKey struct {
	route  string
	status int
}

type runKey struct{ route, state string }

type attemptKey struct{ target, fault string }

// known is m's value of key, made once. The keys are few: routes and operations
// of the content, with statuses, states and faults.
func known[T any](m *sync.Map, key any, fresh func() T) T {
	v, ok := m.Load(key)
	if !ok {
		v, _ = m.LoadOrStore(key, fresh())
	}
	return v.(T)
}

func (s *series) add(took time.Duration) {
	s.count.Inc()
	s.took.Observe(took.Seconds())
}

// Answered counts an answer of the public face.
func (m *Metrics) Answered(route string, status int, took time.Duration) {
	known(&m.perRequest, requestKey{route, status}, func() *series {
		return &series{m.requests.WithLabelValues(route, strconv.Itoa(status)), m.requestSeconds.WithLabelValues(route)}
	}).add(took)
}

// RunStarted counts a run that began.
func (m *Metrics) RunStarted(route string) {
	known(&m.perStart, route, func() prometheus.Counter { return m.started.WithLabelValues(route) }).Inc()
}

// RunEnded counts a run that ended or was parked.
func (m *Metrics) RunEnded(route, state string, took time.Duration) {
	known(&m.perEnd, runKey{route, state}, func() *series {
		return &series{m.ended.WithLabelValues(route, state), m.runSeconds.WithLabelValues(route)}
	}).add(took)
}

// Attempt counts one attempt of an operation; fault is "" for success.
func (m *Metrics) Attempt(target, fault string, took time.Duration) {
	known(&m.perAttempt, attemptKey{target, fault}, func() *series {
		return &series{m.attempts.WithLabelValues(target, fault), m.attemptSeconds.WithLabelValues(target)}
	}).add(took)
}

// Deferred counts a step that was put off.
func (m *Metrics) Deferred(route, target string) { m.deferrals.WithLabelValues(route, target).Inc() }

// Event counts an event that the engine received, and the runs that it woke.
func (m *Metrics) Event(eventType string, woken int) {
	m.events.WithLabelValues(eventType).Inc()
	m.woken.WithLabelValues(eventType).Add(float64(woken))
}

// Commit counts a commit of the journal.
func (m *Metrics) Commit(kind string, took time.Duration) {
	m.commits.WithLabelValues(kind).Inc()
	m.commitSeconds.Observe(took.Seconds())
}

// Reloaded counts a reload of the content; refused ones leave all as it was.
func (m *Metrics) Reloaded(at time.Time, ok bool) {
	if !ok {
		m.reloads.WithLabelValues("refused").Inc()
		m.reloadSuccess.Set(0)
		return
	}
	m.reloads.WithLabelValues("ok").Inc()
	m.reloadSuccess.Set(1)
	m.reloaded.Set(float64(at.UnixMilli()) / 1000)
}

// RouteVersion is a route in force.
type RouteVersion struct {
	Route   string
	Version int // the label
	Digest  string
}

// Routes says which routes are in force; those that are not named are no more.
func (m *Metrics) Routes(all []RouteVersion) {
	m.routeVersionsMu.Lock()
	defer m.routeVersionsMu.Unlock()
	m.routeVersion.Reset()
	for _, r := range all {
		m.routeVersion.WithLabelValues(r.Route, r.Digest).Set(float64(r.Version))
	}
}

// Gauge is a number that is read when metrics are asked for, such as the age of
// the oldest row of the outbox.
type Gauge struct {
	Name, Help string         // Name without dime_
	Read       func() float64 // returns at once
}

// Gauges adds some; a name that exists already is an error.
func (m *Metrics) Gauges(all ...Gauge) error {
	for _, g := range all {
		err := m.registry.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "dime_" + g.Name, Help: g.Help}, g.Read))
		if err != nil {
			return fmt.Errorf("registering the metric dime_%s: %w", g.Name, err)
		}
	}
	return nil
}

// StateCounts registers dime_runs, the runs alive by state; read is called when
// metrics are asked for.
func (m *Metrics) StateCounts(read func() map[string]int) error {
	if err := m.registry.Register(states{prometheus.NewDesc("dime_runs", "Runs that are stored, by state.", []string{"state"}, nil), read}); err != nil {
		return fmt.Errorf("registering the metric dime_runs: %w", err)
	}
	return nil
}

type states struct {
	desc *prometheus.Desc
	read func() map[string]int
}

func (s states) Describe(c chan<- *prometheus.Desc) { c <- s.desc }

func (s states) Collect(c chan<- prometheus.Metric) {
	for state, n := range s.read() {
		c <- prometheus.MustNewConstMetric(s.desc, prometheus.GaugeValue, float64(n), state)
	}
}

// Level reads debug, info, warn or error.
func Level(s string) (slog.Level, error) {
	switch s {
	case "debug":
		return slog.LevelDebug, nil
	case "", "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("log level %q is not one of debug, info, warn, error", s)
}

// Log writes one JSON object a line, with times in UTC. No personal data is to
// reach it, and three nets catch what does all the same, whoever logs: values
// under a telling name are starred, a structure is shown by its type alone,
// and what looks like a tax code or an address of mail is starred inside any text.
// Log lines are kept longer than the data of persons may be.
func Log(w io.Writer, level slog.Level) *slog.Logger {
	telling := regexp.MustCompile(`(?i)\b[a-z]{6}[0-9lmnp-v]{2}[a-z][0-9lmnp-v]{2}[a-z][0-9lmnp-v]{3}[a-z]\b|[\w.+%-]+@[\w-]+\.[\w.-]+`)
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if personal(a.Key) {
			return slog.String(a.Key, "***")
		}
		switch a.Value.Kind() {
		case slog.KindTime:
			a.Value = slog.TimeValue(a.Value.Time().UTC())
		case slog.KindString:
			a.Value = slog.StringValue(telling.ReplaceAllString(a.Value.String(), "***"))
		case slog.KindAny:
			switch v := a.Value.Any().(type) {
			case slog.Level:
			case error:
				a.Value = slog.StringValue(telling.ReplaceAllString(v.Error(), "***"))
			case fmt.Stringer:
				a.Value = slog.StringValue(telling.ReplaceAllString(v.String(), "***"))
			case []string:
				a.Value = slog.StringValue(telling.ReplaceAllString(strings.Join(v, ", "), "***"))
			default:
				a.Value = slog.StringValue(fmt.Sprintf("%T", v))
			}
		}
		return a
	}}))
}

// personal says whether values under this name are of a person or secret.
func personal(name string) bool {
	switch strings.ToLower(name) {
	case "tax_code", "subject", "caller", "acting_for", "name", "given_name", "family_name", "email", "phone", "note", "body", "value", "in", "out", "raw",
		"token", "secret", "password", "authorization", "cookie", "req", "key":
		return true
	}
	return false
}
