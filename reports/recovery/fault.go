package recovery

import (
	"cmp"
	"slices"
	"time"

	"statequake/history"
)

// Fault is one fault of a run, put together from its events. Instants are on
// the run clock, nil if there was no such event.
type Fault struct {
	Name      string            `json:"name"`
	Kind      string            `json:"kind"`
	Action    string            `json:"action"`
	Targets   []string          `json:"targets"`         // node names
	Roles     map[string]string `json:"roles,omitempty"` // target -> its role at injection
	Requested *time.Duration    `json:"requested_ns"`
	Injected  *time.Duration    `json:"injected_ns"`
	Recovered *time.Duration    `json:"recovered_ns"`
	Evidence  Evidence          `json:"evidence"`
}

// Evidence is an independent observer's verdict on whether a fault happened.
// Without any, Verdict is inconclusive.
type Evidence struct {
	Verdict history.Proof `json:"verdict"`
	Detail  string        `json:"detail"`
}

// Faults combines the events of each fault, by name, ordered by the first
// event. The first event of a kind counts for the instant; targets and roles
// are the latest known. Of several evidence events the worst counts: mismatch,
// then inconclusive, then confirmed.
func Faults(events []history.Fault) []Fault {
	ordered := slices.Clone(events)
	slices.SortStableFunc(ordered, func(a, b history.Fault) int { return cmp.Compare(a.At, b.At) })
	var names []string
	faults := map[string]*Fault{}
	for _, e := range ordered {
		f := faults[e.Name]
		if f == nil {
			f = &Fault{Name: e.Name, Targets: []string{}}
			faults[e.Name] = f
			names = append(names, e.Name)
		}
		f.Kind = cmp.Or(e.Kind, f.Kind)
		f.Action = cmp.Or(e.Action, f.Action)
		if len(e.Targets) > 0 {
			f.Targets = e.Targets
		}
		if len(e.Roles) > 0 {
			f.Roles = e.Roles
		}
		switch e.Event {
		case history.Requested:
			f.Requested = first(f.Requested, e.At)
		case history.Injected:
			f.Injected = first(f.Injected, e.At)
		case history.Recovered:
			f.Recovered = first(f.Recovered, e.At)
		case history.Evidence:
			if f.Evidence.Verdict == "" || severity(e.Proof) > severity(f.Evidence.Verdict) {
				f.Evidence = Evidence{Verdict: e.Proof, Detail: e.Detail}
			}
		}
	}
	out := make([]Fault, 0, len(names))
	for _, name := range names {
		f := faults[name]
		if severity(f.Evidence.Verdict) == severity(history.Inconclusive) {
			f.Evidence.Verdict = history.Inconclusive // none, or a word this version does not know
		}
		out = append(out, *f)
	}
	return out
}

func first(have *time.Duration, at time.Duration) *time.Duration {
	if have != nil {
		return have
	}
	return &at
}

func severity(p history.Proof) int {
	switch p {
	case history.Confirmed:
		return 0
	case history.Mismatch:
		return 2
	}
	return 1
}
