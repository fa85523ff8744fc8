package process

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"statequake/history"
)

const (
	// seenWithin is how long after a signal its effect may take: a thread in
	// the middle of a write to a slow disk ends or stops only after it.
	seenWithin = 5 * time.Second

	// askEvery is the pause between two questions to a node's API.
	askEvery = 20 * time.Millisecond
)

// Node is a node that runs as a local process. The functions may be called
// concurrently.
type Node struct {
	Name     string
	Addr     string // host:port of its HTTP API
	ReadyURL string // answers 200 to 299 when the node is ready; "": it is when Addr accepts a connection

	PID  func() int                 // 0 while it is down
	Kill func(syscall.Signal) error // signals the process that runs now
	Hold func(held bool)            // held: once down, it is not started again
}

// Injector injects faults into the nodes of one system. Faults may overlap:
// what several do to a node, the last one to end undoes. Set Now, then call
// the methods, concurrently if need be.
type Injector struct {
	Now func() time.Duration // run clock

	mu      sync.Mutex
	holding map[string]int // node name -> faults that hold it down
	pausing map[ID]int     // process -> faults that stop it
	killed  map[ID]bool    // processes that a fault was told to end
}

// Evidence is what the observer found out about a fault on one node.
type Evidence struct {
	Seen   bool          // its effect was seen
	At     time.Duration // then: when, on the run clock
	Proof  history.Proof
	Detail string // in words, with figures
	node   Node
	target ID   // zero if there was no process
	before Look // pauses only: the process once it was stopped
}

// Kill ends the node's process with SIGKILL; with a grace period by SIGTERM
// first, and SIGKILL if it still runs afterwards. seen is told when the
// observer saw that it runs no more. If ctx ends during the grace period the
// process is left to end by itself.
func (j *Injector) Kill(ctx context.Context, node Node, grace time.Duration, seen func(at time.Duration)) Evidence {
	ev := j.kill(ctx, node, grace)
	if ev.Seen {
		seen(ev.At)
	}
	if ev.Proof == history.Confirmed {
		ev.connectionRefused(context.WithoutCancel(ctx))
	}
	return ev
}

// kill ends the process and observes its end. Its evidence is about the
// process alone.
func (j *Injector) kill(ctx context.Context, node Node, grace time.Duration) Evidence {
	ev, ok := j.target(node)
	if !ok {
		return ev
	}
	j.mu.Lock()
	if j.killed == nil {
		j.killed = map[ID]bool{}
	}
	j.killed[ev.target] = true
	j.mu.Unlock()

	sig := syscall.SIGKILL
	if grace > 0 {
		sig = syscall.SIGTERM
	}
	sent := j.Now()
	if err := node.Kill(sig); err != nil {
		return ev.failed(history.Mismatch, "%v", err)
	}
	if grace > 0 {
		patience, cancel := context.WithTimeout(ctx, grace)
		_, at, err := j.awaitLook(patience, ev.target, Look.dead)
		cancel()
		switch {
		case err == nil:
			return j.gone(ctx, ev, at, sent, "SIGTERM")
		case ctx.Err() != nil:
			return ev.failed(history.Inconclusive, "the run ended while pid %d had its grace period", ev.target.PID)
		case !errors.Is(err, context.DeadlineExceeded):
			return ev.failed(history.Inconclusive, "%v", err)
		}
		sent = j.Now()
		if err := node.Kill(syscall.SIGKILL); err != nil {
			return ev.failed(history.Mismatch, "%v", err)
		}
	}
	// Also after ctx has ended: the signal is on its way.
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), seenWithin)
	defer cancel()
	_, at, err := j.awaitLook(patience, ev.target, Look.dead)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return ev.failed(history.Mismatch, "pid %d still ran %v after SIGKILL", ev.target.PID, seenWithin)
	case err != nil:
		return ev.failed(history.Inconclusive, "%v", err)
	}
	return j.gone(ctx, ev, at, sent, "SIGKILL")
}

// gone follows a process that was seen dead at the instant at until nothing is
// left of it.
func (j *Injector) gone(ctx context.Context, ev Evidence, at, sent time.Duration, sig string) Evidence {
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), seenWithin)
	defer cancel()
	_, end, err := j.awaitLook(patience, ev.target, func(l Look) bool { return l.Gone })
	ev = ev.confirmed(at, "pid %d ran no more %s after %s and was gone after %s", ev.target.PID, words(at-sent), sig, words(end-sent))
	if err != nil {
		return ev.failed(history.Inconclusive, "pid %d ran no more %s after %s, but it was not gone %v later", ev.target.PID, words(at-sent), sig, seenWithin)
	}
	return ev
}

// Fail ends the node's process with SIGKILL and keeps it down for d, counted
// from when it was seen to run no more, or until ctx ends. seen is told when
// that was.
func (j *Injector) Fail(ctx context.Context, node Node, d time.Duration, seen func(at time.Duration)) Evidence {
	j.hold(node, 1)
	defer j.hold(node, -1)
	ev := j.Kill(ctx, node, 0, seen)
	if !ev.Seen {
		return ev
	}
	j.wait(ctx, ev.At+d)
	lasted := j.Now() - ev.At
	if pid := ev.successor(); pid != 0 {
		return ev.but(history.Mismatch, "pid %d ran %s later, while none was to run", pid, words(lasted))
	}
	if ev.Proof != history.Confirmed {
		return ev
	}
	if ok, answer := refused(context.WithoutCancel(ctx), node.Addr); !ok {
		return ev.but(history.Inconclusive, "%s later %s", words(lasted), answer)
	}
	ev.Detail += fmt.Sprintf(", and again %s later", words(lasted))
	return ev
}

// Pause stops the node's process with SIGSTOP for d, counted from when all its
// threads were seen stopped, or until ctx ends; then it continues it. seen is
// told when that was. The error says that the
// process could not be continued.
func (j *Injector) Pause(ctx context.Context, node Node, d time.Duration, seen func(at time.Duration)) (ev Evidence, err error) {
	ev, ok := j.target(node)
	if !ok {
		return ev, nil
	}
	sent := j.Now()
	if err := j.stop(ev.target, node); err != nil {
		return ev.failed(history.Mismatch, "%v", err), nil
	}
	defer func() { err = j.cont(ev.target, node) }()

	patience, cancel := context.WithTimeout(ctx, seenWithin)
	before, at, lookErr := j.awaitStopped(patience, ev.target)
	cancel()
	switch {
	case ctx.Err() != nil:
		return ev.failed(history.Inconclusive, "the run ended before pid %d was seen stopped", ev.target.PID), nil
	case errors.Is(lookErr, context.DeadlineExceeded):
		return ev.failed(history.Mismatch, "%d of %d threads of pid %d were stopped %v after SIGSTOP",
			before.Stopped, before.Threads, ev.target.PID, seenWithin), nil
	case lookErr != nil:
		return ev.failed(history.Inconclusive, "%v", lookErr), nil
	case before.Gone:
		return ev.failed(history.Mismatch, "pid %d ended before it was seen stopped", ev.target.PID), nil
	}
	ev = ev.confirmed(at, "all %d threads of pid %d were stopped %s after SIGSTOP", before.Threads, ev.target.PID, words(at-sent))
	ev.before = before
	seen(at)

	end, killed := j.waitPaused(ctx, ev.target, at+d)
	after, lookErr := ev.target.Look()
	switch {
	case killed:
		ev.Detail += fmt.Sprintf(" until another fault killed it %s later", words(end-at))
	case lookErr != nil:
		return ev.but(history.Inconclusive, "then %v", lookErr), nil
	case after.Gone:
		return ev.but(history.Mismatch, "it ended within the pause"), nil
	case !after.stopped() || after.CPU != before.CPU || after.Switches != before.Switches:
		return ev.but(history.Mismatch, "in %s it used %d ms of CPU time, switched context %d times, and %d of %d threads were stopped at the end",
			words(end-at), 10*(after.CPU-before.CPU), after.Switches-before.Switches, after.Stopped, after.Threads), nil
	default:
		ev.Detail += fmt.Sprintf("; in the %s after that it used 0 ms of CPU time and switched context 0 times", words(end-at))
	}
	return ev, nil
}

// waitPaused waits until the run clock shows until, ctx ends, or a fault has
// killed the process. It returns when that was.
func (j *Injector) waitPaused(ctx context.Context, id ID, until time.Duration) (at time.Duration, killed bool) {
	for {
		j.mu.Lock()
		killed = j.killed[id]
		j.mu.Unlock()
		now := j.Now()
		if killed {
			look, err := id.Look()
			killed = err == nil && look.Gone // a SIGTERM has to wait for the end of the pause
		}
		if killed || now >= until || ctx.Err() != nil {
			return now, killed
		}
		j.wait(ctx, min(until, now+askEvery))
	}
}

// Recovered waits until the node is back from a fault: no fault holds or stops
// it any more, and either the process that the fault met makes progress again,
// or another one is ready. It returns when that was seen and a
// word on it; false if ctx ends before.
func (j *Injector) Recovered(ctx context.Context, ev Evidence) (at time.Duration, detail string, ok bool) {
	for {
		if back, detail := j.recovered(ctx, ev); back {
			return j.Now(), detail, true
		}
		select {
		case <-ctx.Done():
			return 0, "", false
		case <-time.After(askEvery):
		}
	}
}

func (j *Injector) recovered(ctx context.Context, ev Evidence) (bool, string) {
	j.mu.Lock()
	busy := j.holding[ev.node.Name] > 0 || j.pausing[ev.target] > 0
	j.mu.Unlock()
	if busy {
		return false, ""
	}
	now, ok := Identify(ev.node.PID())
	if !ok {
		return false, ""
	}
	if now != ev.target {
		ready, word := ev.node.Ready(ctx)
		return ready, fmt.Sprintf("%s: pid %d %s", ev.node.Name, now.PID, word)
	}
	look, err := now.Look()
	if err != nil || look.Gone || look.stopped() {
		return false, ""
	}
	if look.CPU > ev.before.CPU || look.Switches > ev.before.Switches {
		return true, fmt.Sprintf("%s: pid %d ran again", ev.node.Name, now.PID)
	}
	// An idle process makes progress only when it is asked something.
	status := ask(ctx, cmp.Or(ev.node.ReadyURL, "http://"+ev.node.Addr+"/"))
	return status != 0, fmt.Sprintf("%s: pid %d answered with status %d", ev.node.Name, now.PID, status)
}

// target is the process that runs the node now; false with evidence of a
// mismatch if there is none.
func (j *Injector) target(node Node) (Evidence, bool) {
	ev := Evidence{node: node}
	pid := node.PID()
	if pid == 0 {
		return ev.failed(history.Mismatch, "no process was running"), false
	}
	var ok bool
	if ev.target, ok = Identify(pid); !ok {
		return ev.failed(history.Mismatch, "pid %d had already ended on its own", pid), false
	}
	return ev, true
}

// successor is the process that runs the node instead of the one that the
// fault met; 0 if there is none. Whoever keeps the node running may learn of
// the end of a process later than the observer.
func (ev Evidence) successor() int {
	if now, ok := Identify(ev.node.PID()); ok && now != ev.target {
		return now.PID
	}
	return 0
}

// wait waits until the run clock shows until, or ctx ends.
func (j *Injector) wait(ctx context.Context, until time.Duration) {
	timer := time.NewTimer(until - j.Now())
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (j *Injector) hold(node Node, delta int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.holding == nil {
		j.holding = map[string]int{}
	}
	j.holding[node.Name] += delta
	node.Hold(j.holding[node.Name] > 0)
}

// Hold keeps the node down once its process has ended, until release is called.
func (j *Injector) Hold(node Node) (release func()) {
	j.hold(node, 1)
	return sync.OnceFunc(func() { j.hold(node, -1) })
}

func (j *Injector) stop(id ID, node Node) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := node.Kill(syscall.SIGSTOP); err != nil {
		return err
	}
	if j.pausing == nil {
		j.pausing = map[ID]int{}
	}
	j.pausing[id]++
	return nil
}

// cont continues the process if no other fault stops it and it is still the
// one that runs the node.
func (j *Injector) cont(id ID, node Node) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.pausing[id]--
	if j.pausing[id] > 0 {
		return nil
	}
	delete(j.pausing, id)
	if node.PID() != id.PID {
		return nil
	}
	err := node.Kill(syscall.SIGCONT)
	if look, lookErr := id.Look(); lookErr == nil && look.Gone {
		return nil
	}
	return err
}

func (ev Evidence) confirmed(at time.Duration, format string, args ...any) Evidence {
	ev.Seen, ev.At, ev.Proof = true, at, history.Confirmed
	ev.Detail = ev.node.Name + ": " + fmt.Sprintf(format, args...)
	return ev
}

func (ev Evidence) failed(proof history.Proof, format string, args ...any) Evidence {
	ev.Proof = proof
	ev.Detail = ev.node.Name + ": " + fmt.Sprintf(format, args...)
	return ev
}

// but takes back what was confirmed.
func (ev Evidence) but(proof history.Proof, format string, args ...any) Evidence {
	ev.Proof = proof
	ev.Detail += "; but " + fmt.Sprintf(format, args...)
	return ev
}

// connectionRefused adds the word of the node's API address to evidence that
// the process is gone.
func (ev *Evidence) connectionRefused(ctx context.Context) {
	ok, answer := refused(ctx, ev.node.Addr)
	ev.Detail += "; " + answer
	if ok {
		return
	}
	if pid := ev.successor(); pid != 0 {
		ev.Detail += fmt.Sprintf(" of pid %d, which was started since", pid)
		return
	}
	ev.Proof = history.Inconclusive
}

// words writes a duration with three figures.
func words(d time.Duration) string {
	switch {
	case d >= time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d >= 10*time.Millisecond:
		return fmt.Sprintf("%.0f ms", float64(d)/1e6)
	}
	return fmt.Sprintf("%.1f ms", float64(d)/1e6)
}
