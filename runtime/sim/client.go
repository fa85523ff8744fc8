package sim

import (
	"encoding/json"
	"fmt"
	"time"

	"statequake/runtime/core"
)

// op is an operation as its client saw it.
type op struct {
	id       string
	key      core.ID
	name     string
	arg      arg
	args     json.RawMessage
	write    bool
	audit    bool
	sent     int // attempts
	invoked  time.Duration
	returned time.Duration // if done
	done     bool
	epoch    int64
	reply    core.Reply
	answer   *core.Reply // the first one that any core gave
}

// client sends one operation after the other.
type client struct {
	w       *world
	name    string
	count   int
	stopped bool
}

func (c *client) next() {
	if c.w.calm {
		c.stopped = true
		return
	}
	w := c.w
	c.count++
	o := &op{id: fmt.Sprintf("%s-%d", c.name, c.count), key: w.keys[w.rng.IntN(len(w.keys))], name: "get"}
	switch kind := w.rng.IntN(20); {
	case kind == 0:
		o.name = "witness"
	case kind < 12 && o.key.Type == "counter":
		o.name, o.write, o.arg = "add", true, arg{N: w.rng.IntN(7) - 2}
	case kind < 12:
		o.name, o.write, o.arg = "set", true, arg{Value: o.id}
	case kind == 12 && o.key.Type == "register":
		o.name, o.write = "delete", true
	}
	c.begin(o, func() { w.after(w.between(0, 100*time.Millisecond), nil, c.next) })
}

// begin sends o until it is answered or patience ends, then calls then.
func (c *client) begin(o *op, then func()) {
	w := c.w
	var err error
	if o.args, err = json.Marshal(o.arg); err != nil {
		panic(err) // only args come here
	}
	o.invoked = w.now
	w.history = append(w.history, o)
	w.byID[o.id] = o
	w.log("%s invokes %s: %s %s %s", c.name, o.id, o.name, o.key.Key, o.args)
	c.attempt(o, then)
}

func (c *client) attempt(o *op, then func()) {
	w := c.w
	target := w.rng.IntN(len(w.nodes))
	over := false
	k := &call{op: o}
	o.sent++
	again := func() {
		if over || o.done {
			return
		}
		over, k.gone = true, true
		if w.now-o.invoked > patience && !o.audit {
			w.log("%s gives %s up", c.name, o.id)
			then()
			return
		}
		w.after(w.between(0, 50*time.Millisecond), nil, func() { c.attempt(o, then) })
	}
	k.respond = func(ok bool, epoch int64, r core.Reply) {
		if w.chance(w.netLoss) {
			return
		}
		w.after(w.wire(), nil, func() {
			switch {
			case over || o.done:
			case !ok:
				again()
			default:
				over = true
				o.done, o.returned, o.epoch, o.reply = true, w.now, epoch, r
				w.result.Ops++
				w.log("%s: %s at version %d, %s, epoch %d", o.id, r.Result, r.Version, r.Digest, epoch)
				then()
			}
		})
	}
	w.send(-1, target, func() { w.nodes[target].execute(k) }, again)
	w.after(w.between(200*time.Millisecond, time.Second), nil, again)
}

// heal ends all faults, and has the audit read once the clients have stopped.
func (w *world) heal() {
	w.log("healed")
	w.calm = true
	w.slow, w.storeLoss, w.netLoss, w.netTwice = 1, 0, 0, 0
	clear(w.apart)
	for _, n := range w.nodes {
		n.cut = false
		switch {
		case n.leaving:
			n.crash()
			n.start()
		case !n.up:
			n.start()
		case n.paused:
			n.resume()
		}
	}
	var audit func()
	audit = func() {
		for _, c := range w.clients {
			if !c.stopped {
				w.after(50*time.Millisecond, nil, audit)
				return
			}
		}
		for i, key := range w.keys {
			c := &client{w: w, name: "audit"}
			c.begin(&op{id: fmt.Sprintf("audit-%d", i), key: key, name: "witness", audit: true}, func() {})
		}
		w.after(auditTime, nil, func() {
			if !w.audited() {
				w.violated("the healed cluster did not answer within %v", auditTime)
			}
		})
	}
	w.after(2*time.Second, nil, audit)
}

// audited tells whether the audit has read every key.
func (w *world) audited() bool {
	if !w.calm {
		return false
	}
	for i := range w.keys {
		if o := w.byID[fmt.Sprintf("audit-%d", i)]; o == nil || !o.done {
			return false
		}
	}
	return true
}
