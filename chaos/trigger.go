package chaos

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"time"
)

// Trigger says when a fault starts. It is one of At, Within, AfterAcks, OnFile
// and While.
type Trigger interface{ trigger() }

// At is an instant, from the start of the schedule.
type At time.Duration

// Within is an instant drawn from the seed and the fault's name, from From to
// To, both included, from the start of the schedule.
type Within struct{ From, To time.Duration }

// AfterAcks is when so many operations were acknowledged since the start of
// the schedule.
type AfterAcks int64

// OnFile is the Nth operation, since the start of the schedule, on files of the
// nodes that the fault hits. These are chosen at the start, therefore, not at
// the injection.
type OnFile struct {
	Op   string // fsync or write
	Path string // glob, relative to a node's data directory; one without a slash matches in every folder
	Nth  int    // 1 is the first
}

// While is when another fault, of this name, is seen injected. The fault then
// ends no later than the other is undone, or, if that has no duration, than its
// targets are back.
type While string

func (At) trigger()        {}
func (Within) trigger()    {}
func (AfterAcks) trigger() {}
func (OnFile) trigger()    {}
func (While) trigger()     {}

// DefaultTrigger is that of a fault of a kind for which none is given; nil if one
// has to be. Power is best lost in the midst of a write: at most instants a store
// that syncs has little to lose.
func DefaultTrigger(kind string) Trigger {
	if kind == PowerLoss {
		return OnFile{Op: "write", Path: "*", Nth: 500}
	}
	return nil
}

// Triggers are the fields of which ParseTrigger wants one.
func Triggers() []string { return []string{"at", "within", "after", "on", "while"} }

// ParseTrigger reads a trigger from a JSON object that has one of the fields
//
//	at: 8s
//	within: [5s, 9s]
//	after: {acks: 2000}
//	on: {fsync: "*.wal", nth: 3}    # or write; nth: 1 if not given
//	while: other-fault
//
// Errors begin with the path of the field, unless the object as a whole is
// wrong.
func ParseTrigger(object []byte) (Trigger, error) {
	var form struct {
		At     *string  `json:"at"`
		Within []string `json:"within"`
		After  *struct {
			Acks *int64 `json:"acks"`
		} `json:"after"`
		On *struct {
			Fsync *string `json:"fsync"`
			Write *string `json:"write"`
			Nth   *int    `json:"nth"`
		} `json:"on"`
		While *string `json:"while"`
	}
	if err := decode(object, &form); err != nil {
		return nil, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(object, &fields); err != nil {
		return nil, jsonError(err)
	}
	var given []string
	for _, name := range Triggers() {
		if _, ok := fields[name]; ok {
			given = append(given, name)
		}
	}
	switch len(given) {
	case 0:
		return nil, fmt.Errorf("trigger is missing; have %s\nhint: at: 10s counts from the end of the warmup", strings.Join(Triggers(), ", "))
	case 1:
	default:
		return nil, fmt.Errorf("%s: contradicts %s; give one of them", given[1], given[0])
	}

	switch {
	case form.At != nil:
		at, err := parseInstant("at", *form.At)
		return At(at), err
	case form.Within != nil:
		if len(form.Within) != 2 {
			return nil, fmt.Errorf("within: has %d instants, want 2\nhint: within: [5s, 9s]", len(form.Within))
		}
		from, err := parseInstant("within[0]", form.Within[0])
		if err != nil {
			return nil, err
		}
		to, err := parseInstant("within[1]", form.Within[1])
		if err == nil && to < from {
			err = fmt.Errorf("within[1]: %s is before %s", form.Within[1], form.Within[0])
		}
		return Within{from, to}, err
	case form.After != nil:
		if form.After.Acks == nil {
			return nil, errors.New("after.acks: is missing\nhint: after: {acks: 2000}")
		}
		if *form.After.Acks < 1 {
			return nil, fmt.Errorf("after.acks: %d is not positive", *form.After.Acks)
		}
		return AfterAcks(*form.After.Acks), nil
	case form.On != nil:
		on := OnFile{Nth: 1}
		switch {
		case form.On.Fsync != nil && form.On.Write != nil:
			return nil, errors.New("on.write: contradicts on.fsync; give one of them")
		case form.On.Fsync != nil:
			on.Op, on.Path = "fsync", *form.On.Fsync
		case form.On.Write != nil:
			on.Op, on.Path = "write", *form.On.Write
		default:
			return nil, errors.New("on: is missing fsync or write\nhint: on: {fsync: \"*.wal\", nth: 3}")
		}
		if _, err := path.Match(on.Path, ""); err != nil || on.Path == "" {
			return nil, fmt.Errorf("on.%s: %q is not a glob", on.Op, on.Path)
		}
		if form.On.Nth != nil {
			on.Nth = *form.On.Nth
		}
		if on.Nth < 1 {
			return nil, fmt.Errorf("on.nth: %d is not positive", on.Nth)
		}
		return on, nil
	case form.While != nil:
		if *form.While == "" {
			return nil, errors.New("while: is missing the name of a fault")
		}
		return While(*form.While), nil
	}
	return nil, fmt.Errorf("%s: is empty", given[0])
}

func parseInstant(place, text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", place, err)
	}
	if d < 0 {
		return 0, fmt.Errorf("%s: %s is negative", place, text)
	}
	return d, nil
}

// instant draws the instant of a Within.
func (w Within) instant(random *rand.Rand) time.Duration {
	return w.From + time.Duration(random.Int64N(int64(w.To-w.From)+1))
}

// CheckTriggers reports, joined, what is wrong with faults that wait for each
// other; each error begins with its place, as in "faults[1].while: ...". A nil
// fault is passed over.
func CheckTriggers(faults []*Fault) error {
	byName := map[string]*Fault{}
	var names []string
	for _, f := range faults {
		if f != nil {
			byName[f.Name] = f
			names = append(names, f.Name)
		}
	}
	var errs []error
	for i, f := range faults {
		if f == nil {
			continue
		}
		var chain []string
		for at := f; ; {
			other, waits := at.Trigger.(While)
			if !waits {
				break
			}
			chain = append(chain, at.Name)
			next := byName[string(other)]
			if next == nil && at == f {
				errs = append(errs, fmt.Errorf("faults[%d].while: there is no fault %q; have %s", i, other, strings.Join(names, ", ")))
			}
			if next == f {
				errs = append(errs, fmt.Errorf("faults[%d].while: waits for itself: %s", i, strings.Join(append(chain, f.Name), " -> ")))
			}
			if next == nil || slices.Contains(chain, next.Name) {
				break
			}
			at = next
		}
	}
	return errors.Join(errs...)
}
