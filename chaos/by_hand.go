package chaos

import (
	"context"
	"fmt"

	"statequake/history"
)

// Inject injects a fault at once, whatever its trigger says, beside those of the
// schedule, and returns when it is over, as Run does. When ctx ends it is undone
// at once; one that has ended already leaves no trace. tell gets what is recorded, too, in that order. A name that another
// fault had before gets a number, as in "pause-2". It may be called
// concurrently, during Run or without it.
//
// The error says that the fault could not be undone.
func (n *Nemesis) Inject(ctx context.Context, f *Fault, tell func(history.Fault)) error {
	if ctx.Err() != nil {
		return nil
	}
	named := *f
	named.Name = n.name(f.Name)
	alone := &Nemesis{config: n.config, lives: map[string]*life{named.Name: newLife()}, activity: n.activity}
	alone.config.Record = func(ev history.Fault) {
		n.config.Record(ev)
		tell(ev)
	}
	targets, err := alone.targets(ctx, &named)
	return alone.run(ctx, &named, targets, err, func() {})
}

// name is the name that a fault by hand gets, so that nobody else has it.
func (n *Nemesis) name(wanted string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	name := wanted
	for i := 2; n.taken[name]; i++ {
		name = fmt.Sprintf("%s-%d", wanted, i)
	}
	n.taken[name] = true
	return name
}
