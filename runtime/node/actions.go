package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"statequake/runtime/core"
	"statequake/runtime/entity"
)

// tickEvery is how late timers are at most, besides what their commands take.
const tickEvery = 20 * time.Millisecond

// timers lets the timers of the shards that are served here fire.
func (n *Node) timers() {
	for n.sleep(tickEvery) {
		entities, bytes, timers := 0, int64(0), 0
		for _, s := range n.shards {
			s.mu.Lock()
			m := s.machine
			if m == nil {
				s.mu.Unlock()
				continue
			}
			out := m.Tick(n.now(), n.wall())
			pending := m.Pending()
			count, size := m.Entities()
			timers += m.Timers()
			s.mu.Unlock()
			entities, bytes = entities+count, bytes+size
			n.deliver(s, m, out)
			if pending {
				kick(n.flush)
			}
		}
		n.metrics.entities.Set(float64(entities))
		n.metrics.entityBytes.Set(float64(bytes))
		n.metrics.timers.Set(float64(timers))
	}
}

// wall is the wall clock in ns since 1970 as it was when the node started, carried
// on by the monotonic clock: a step of the wall clock must not make timers fire
// early, or never.
func (n *Node) wall() int64 {
	if n.cfg.Bugs.WallClockTimers {
		return time.Now().UnixNano()
	}
	return n.base.UnixNano() + int64(n.now())
}

// fire sends the command of a timer to its target.
func (n *Node) fire(s *shard, m *core.Shard, f core.Fire) {
	n.metrics.fires.Inc()
	var a answer
	badKey := checkKey(f.Target.Key)
	switch _, known := n.types[f.Target.Type]; {
	case f.Action != "":
		a = n.runAction(n.ctx, f.Op, f.Action, entity.Command{Name: f.Name, Args: f.Args})
	case !known:
		a = refuse(http.StatusNotFound, "none", "unknown entity type %q", f.Target.Type)
	case badKey != nil:
		a = refuse(http.StatusBadRequest, "none", "%v", badKey)
	default:
		a = n.execute(n.ctx, core.Command{Op: f.Op, ID: f.Target, Name: f.Name, Args: f.Args}, false)
	}
	// What panicked would panic again.
	done := a.status <= http.StatusInternalServerError && a.status != misdirected
	if done && a.status != http.StatusOK {
		n.log.Warn("timer", "type", f.Target.Type, "key", f.Target.Key, "action", f.Action, "command", f.Name, "err", a.body.Error)
	}
	s.mu.Lock()
	out := m.Fired(n.now(), f, done)
	pending := m.Pending()
	s.mu.Unlock()
	n.deliver(s, m, out)
	if pending {
		kick(n.flush)
	}
}

// decide runs the handler of a slow entity.
func (n *Node) decide(s *shard, m *core.Shard, r core.Run) {
	d, err := r.Decide()
	s.mu.Lock()
	out := m.Decided(n.now(), r, d, err)
	pending := m.Pending()
	s.mu.Unlock()
	n.deliver(s, m, out)
	if pending {
		kick(n.flush)
	}
}

// callError is an answer to a call of an action that is not 200.
type callError struct{ answer }

func (e *callError) Error() string { return e.body.Error }

// runAction runs a command of an action here.
func (n *Node) runAction(ctx context.Context, op, name string, c entity.Command) answer {
	action, ok := n.actions[name]
	if !ok {
		return refuse(http.StatusNotFound, "none", "unknown action %q", name)
	}
	handler, ok := action.Commands[c.Name]
	if !ok {
		return refuse(http.StatusNotFound, "none", "%s: %v", name, c.Unknown())
	}
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	effect := "none" // of the calls so far
	calls := entity.NewCalls(op, func(ctx context.Context, op, typ, key string, c entity.Command) (json.RawMessage, error) {
		if _, ok := n.types[typ]; !ok {
			return nil, fmt.Errorf("unknown entity type %q", typ)
		}
		if err := checkKey(key); err != nil {
			return nil, err
		}
		a := n.execute(ctx, core.Command{Op: op, ID: core.ID{Type: typ, Key: key}, Name: c.Name, Args: c.Args}, false)
		if a.status == http.StatusOK || a.body.Effect != "none" {
			effect = "unknown"
		}
		if a.status != http.StatusOK {
			return nil, &callError{a}
		}
		return a.body.Result, nil
	})
	result, err := guarded(ctx, handler, calls, c)
	if err == nil {
		return answer{http.StatusOK, reply{Result: result, Node: n.cfg.Name}}
	}
	status := http.StatusBadRequest
	if call := (*callError)(nil); errors.As(err, &call) {
		status = call.status
	} else if ctx.Err() != nil {
		status = http.StatusGatewayTimeout
	} else if errors.Is(err, core.ErrPanic) {
		status = http.StatusInternalServerError
	}
	return refuse(status, effect, "%s: %v", name, err)
}

// guarded runs a handler of an action, which may have no server's recovery
// around it: a timer may run it.
func guarded(ctx context.Context, f entity.ActionHandler, calls *entity.Calls, c entity.Command) (result json.RawMessage, err error) {
	defer func() {
		if p := recover(); p != nil {
			result, err = nil, fmt.Errorf("%s: %w: %v", c.Name, core.ErrPanic, p)
		}
	}()
	return f(ctx, calls, c)
}

func (n *Node) serveAction(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("action")
	op, args, bad := readCommand(w, r)
	a := answer{}
	if bad != nil {
		a = *bad
	} else if leave, ok := n.enter(); !ok {
		a = overloaded()
	} else {
		defer leave()
		a = n.runAction(r.Context(), op, name, entity.Command{Name: r.PathValue("command"), Args: args})
	}
	if _, known := n.actions[name]; !known {
		name = "unknown"
	}
	n.metrics.commands.WithLabelValues(name, strconv.Itoa(a.status)).Inc()
	n.writeAnswer(w, a)
}

// enter counts a command in, unless too many are under way.
func (n *Node) enter() (leave func(), ok bool) {
	if n.inFlight.Add(1) > int64(n.cfg.MaxInFlight) {
		n.inFlight.Add(-1)
		return nil, false
	}
	return func() { n.inFlight.Add(-1) }, true
}

func overloaded() answer {
	return refuse(http.StatusServiceUnavailable, "none", "too many commands are under way")
}
