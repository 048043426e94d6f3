package gateway

import (
	"context"
	"net/http"
	"strconv"

	"github.com/dime-bus/dime/internal/fault"
)

func eventNumber(s, pointer string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return 0, &fault.Error{Kind: fault.Invalid, Pointer: pointer, Detail: "an event is named by its number in GET /events/unmatched"}
	}
	return n, nil
}

func (a *admin) events(w http.ResponseWriter, r *http.Request, from func(context.Context, int64) (any, error)) {
	var after int64
	var err error
	if s := r.URL.Query().Get("after"); s != "" {
		after, err = eventNumber(s, "/after")
	}
	var list any
	if err == nil {
		list, err = from(r.Context(), after)
	}
	if err != nil {
		a.refuse(w, err)
		return
	}
	a.send(w, 200, map[string]any{"events": list})
}

// settle takes the same body as an act on a run.
func (a *admin) settle(w http.ResponseWriter, r *http.Request) {
	event, err := eventNumber(r.PathValue("event"), "/event")
	var act Act
	if err == nil {
		act, err = readAct(http.MaxBytesReader(w, r.Body, maxAct))
	}
	if err == nil {
		err = act.check("settle")
	}
	if err == nil && act.DryRun {
		err = &fault.Error{Kind: fault.Invalid, Pointer: "/dry_run", Detail: "settling an event has no dry run"}
	}
	var settled any
	if err == nil {
		settled, err = a.cfg.Settle(r.Context(), event, act.Reason, act.As)
	}
	if err != nil {
		a.refuse(w, err)
		return
	}
	a.cfg.Log.Info("a person settled an event that no run took", "event", event, "as", act.As)
	a.send(w, 200, settled)
}
