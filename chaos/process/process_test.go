package process

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"statequake/chaos/internal/testnode"
	"statequake/history"
)

func TestMain(m *testing.M) { testnode.Main(m) }

func startNode(t *testing.T, mode testnode.Mode) *node { return &node{testnode.Start(t, "n1", mode)} }

type node struct{ *testnode.Node }

func (n *node) target() Node {
	return Node{Name: n.Name, Addr: n.Addr, ReadyURL: "http://" + n.Addr + "/readyz", PID: n.PID, Kill: n.Kill, Hold: n.Hold}
}

func newInjector() *Injector {
	start := time.Now()
	return &Injector{Now: func() time.Duration { return time.Since(start) }}
}

func check(t *testing.T, ev Evidence, proof history.Proof, words ...string) {
	t.Helper()
	if ev.Proof != proof {
		t.Errorf("%s (%s), want %s", ev.Proof, ev.Detail, proof)
	}
	for _, w := range words {
		if !strings.Contains(ev.Detail, w) {
			t.Errorf("detail %q lacks %q", ev.Detail, w)
		}
	}
}

func recovered(t *testing.T, j *Injector, ev Evidence) (time.Duration, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	at, detail, ok := j.Recovered(ctx, ev)
	if !ok {
		t.Fatalf("not recovered from %q", ev.Detail)
	}
	return at, detail
}

func TestKill(t *testing.T) {
	n, j := startNode(t, testnode.Plain), newInjector()
	pid := n.PID()
	var seen []time.Duration
	ev := j.Kill(t.Context(), n.target(), 0, func(at time.Duration) { seen = append(seen, at) })
	check(t, ev, history.Confirmed, fmt.Sprintf("n1: pid %d ran no more ", pid), " after SIGKILL and was gone after ", n.Addr+" refused a connection")
	if len(seen) != 1 || seen[0] != ev.At || !ev.Seen {
		t.Errorf("seen at %v, evidence at %v", seen, ev.At)
	}
	at, detail := recovered(t, j, ev)
	if at <= ev.At || detail != fmt.Sprintf("n1: pid %d was ready, status 200", n.PID()) || n.PID() == pid {
		t.Errorf("recovered at %v: %s; injected at %v into pid %d", at, detail, ev.At, pid)
	}
}

func TestKillWithGrace(t *testing.T) {
	const grace = 300 * time.Millisecond
	t.Run("enough", func(t *testing.T) {
		n, j := startNode(t, testnode.Plain), newInjector()
		ev := j.Kill(t.Context(), n.target(), 10*time.Second, func(time.Duration) {})
		check(t, ev, history.Confirmed, "after SIGTERM", "refused")
	})
	t.Run("not enough", func(t *testing.T) {
		n, j := startNode(t, testnode.Stubborn), newInjector()
		ev := j.Kill(t.Context(), n.target(), grace, func(time.Duration) {})
		check(t, ev, history.Confirmed, "after SIGKILL", "refused")
		if ev.At < grace {
			t.Errorf("gone at %v, before the grace period was over", ev.At)
		}
	})
	t.Run("cut short", func(t *testing.T) {
		n, j := startNode(t, testnode.Stubborn), newInjector()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		ev := j.Kill(ctx, n.target(), time.Hour, func(time.Duration) { t.Error("seen") })
		check(t, ev, history.Inconclusive, "grace period")
	})
}

func TestKillOfADeadProcess(t *testing.T) {
	j := newInjector()
	t.Run("down", func(t *testing.T) {
		down := Node{Name: "n1", PID: func() int { return 0 }}
		check(t, j.Kill(t.Context(), down, 0, nil), history.Mismatch, "no process was running")
	})
	t.Run("zombie", func(t *testing.T) {
		cmd := exec.Command("true")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer cmd.Wait()
		testnode.Await(t, "a zombie", func() bool { _, ok := Identify(cmd.Process.Pid); return !ok })
		zombie := Node{Name: "n1", PID: func() int { return cmd.Process.Pid }}
		check(t, j.Kill(t.Context(), zombie, 0, nil), history.Mismatch, fmt.Sprintf("pid %d had already ended on its own", cmd.Process.Pid))
	})
	t.Run("another one with its pid", func(t *testing.T) {
		id, ok := Identify(os.Getpid())
		if !ok {
			t.Fatal("this process is not there")
		}
		id.Start--
		if look, err := id.Look(); err != nil || !look.Gone {
			t.Errorf("%+v, %v, want gone", look, err)
		}
	})
}

// A node that claims to have sent the signal but did not.
func TestKillThatDoesNothing(t *testing.T) {
	t.Parallel() // it takes 5 s
	n, j := startNode(t, testnode.Plain), newInjector()
	lame := n.target()
	lame.Kill = func(syscall.Signal) error { return nil }
	ev := j.Kill(t.Context(), lame, 0, func(time.Duration) { t.Error("seen") })
	check(t, ev, history.Mismatch, "still ran 5s after SIGKILL")
}

func TestFail(t *testing.T) {
	n, j := startNode(t, testnode.Plain), newInjector()
	const d = 300 * time.Millisecond
	ev := j.Fail(t.Context(), n.target(), d, func(time.Duration) {})
	check(t, ev, history.Confirmed, "gone", "refused a connection, and again 30", " ms later")
	at, _ := recovered(t, j, ev)
	if at-ev.At < d {
		t.Errorf("recovered %v after the injection, want not before %v", at-ev.At, d)
	}
	if n.Starts() != 2 {
		t.Errorf("started %d times, want 2", n.Starts())
	}
}

func TestFailOfANodeThatComesBackTooEarly(t *testing.T) {
	n, j := startNode(t, testnode.Plain), newInjector()
	disobedient := n.target()
	disobedient.Hold = func(bool) {}
	ev := j.Fail(t.Context(), disobedient, 400*time.Millisecond, func(time.Duration) {})
	check(t, ev, history.Mismatch, "while none was to run")
}

func TestPause(t *testing.T) {
	n, j := startNode(t, testnode.Plain), newInjector()
	pid := n.PID()
	const d = 300 * time.Millisecond
	ev, err := j.Pause(t.Context(), n.target(), d, func(time.Duration) {
		if status := ask(t.Context(), "http://"+n.Addr+"/readyz"); status != 0 {
			t.Errorf("a stopped process answered %d", status)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	check(t, ev, history.Confirmed, fmt.Sprintf("threads of pid %d were stopped", pid), "after SIGSTOP", "used 0 ms of CPU time and switched context 0 times")
	at, detail := recovered(t, j, ev)
	if at-ev.At < d || n.PID() != pid || !strings.Contains(detail, fmt.Sprintf("n1: pid %d ", pid)) {
		t.Errorf("recovered %v after the injection: %s", at-ev.At, detail)
	}
	n.AwaitReady()
}

func TestPauseOfAProcessThatIsContinued(t *testing.T) {
	n, j := startNode(t, testnode.Plain), newInjector()
	ev, err := j.Pause(t.Context(), n.target(), 200*time.Millisecond, func(time.Duration) { n.Kill(syscall.SIGCONT) })
	if err != nil {
		t.Fatal(err)
	}
	check(t, ev, history.Mismatch, "switched context", "threads were stopped at the end")
}

// Stopped again in time for the last look, but it ran in between.
func TestPauseWithAGap(t *testing.T) {
	n, j := startNode(t, testnode.Plain), newInjector()
	ev, err := j.Pause(t.Context(), n.target(), 300*time.Millisecond, func(time.Duration) {
		n.Kill(syscall.SIGCONT)
		n.AwaitReady()
		n.Kill(syscall.SIGSTOP)
	})
	if err != nil {
		t.Fatal(err)
	}
	check(t, ev, history.Mismatch, "switched context")
}

func TestPauseOfAProcessThatDies(t *testing.T) {
	n, j := startNode(t, testnode.Plain), newInjector()
	ev, err := j.Pause(t.Context(), n.target(), 200*time.Millisecond, func(time.Duration) { n.Kill(syscall.SIGKILL) })
	if err != nil {
		t.Fatal(err)
	}
	check(t, ev, history.Mismatch, "it ended within the pause")
}

func TestPauseThatAKillEnds(t *testing.T) {
	n, j := startNode(t, testnode.Plain), newInjector()
	var kill Evidence
	ev, err := j.Pause(t.Context(), n.target(), time.Hour, func(time.Duration) {
		kill = j.Kill(t.Context(), n.target(), 0, func(time.Duration) {})
	})
	if err != nil {
		t.Fatal(err)
	}
	check(t, kill, history.Confirmed)
	check(t, ev, history.Confirmed, "until another fault killed it")
	recovered(t, j, ev)
}

func TestOverlappingPauses(t *testing.T) {
	n, j := startNode(t, testnode.Plain), newInjector()
	id, _ := Identify(n.PID())
	started := make(chan struct{})
	var long Evidence
	var longDone sync.WaitGroup
	longDone.Go(func() {
		long, _ = j.Pause(t.Context(), n.target(), 600*time.Millisecond, func(time.Duration) { close(started) })
	})
	<-started
	short, err := j.Pause(t.Context(), n.target(), 100*time.Millisecond, func(time.Duration) {})
	if err != nil {
		t.Fatal(err)
	}
	if look, err := id.Look(); err != nil || !look.stopped() {
		t.Errorf("%+v, %v: the short pause undid the long one", look, err)
	}
	at, _ := recovered(t, j, short)
	longDone.Wait()
	check(t, short, history.Confirmed)
	check(t, long, history.Confirmed)
	if at < long.At+600*time.Millisecond {
		t.Errorf("recovered from the short pause at %v, within the long one from %v", at, long.At)
	}
}

func TestOverlappingFailures(t *testing.T) {
	n, j := startNode(t, testnode.Plain), newInjector()
	started := make(chan struct{})
	var long Evidence
	var longDone sync.WaitGroup
	longDone.Go(func() {
		long = j.Fail(t.Context(), n.target(), 500*time.Millisecond, func(time.Duration) { close(started) })
	})
	<-started
	testnode.Await(t, "end", func() bool { return n.PID() == 0 })
	check(t, j.Fail(t.Context(), n.target(), time.Millisecond, nil), history.Mismatch, "no process was running")
	longDone.Wait()
	check(t, long, history.Confirmed)
}

func TestEndOfContextHeals(t *testing.T) {
	n, j := startNode(t, testnode.Plain), newInjector()
	ctx, cancel := context.WithCancel(t.Context())
	ev, err := j.Pause(ctx, n.target(), time.Hour, func(time.Duration) { cancel() })
	if err != nil {
		t.Fatal(err)
	}
	check(t, ev, history.Confirmed)
	recovered(t, j, ev)

	ctx, cancel = context.WithCancel(t.Context())
	ev = j.Fail(ctx, n.target(), time.Hour, func(time.Duration) { cancel() })
	check(t, ev, history.Confirmed)
	recovered(t, j, ev)
}

func TestWhatALookMeans(t *testing.T) {
	for _, tt := range []struct {
		look          Look
		dead, stopped bool
	}{
		{Look{Gone: true}, true, false},
		{Look{Threads: 3}, false, false},
		{Look{Threads: 3, Stopped: 3}, false, true},
		{Look{Threads: 3, Stopped: 2}, false, false},
		{Look{Threads: 3, Exiting: 2}, false, false},
		{Look{Threads: 1, Exiting: 1}, true, false}, // the last thread frees the memory
	} {
		if tt.look.dead() != tt.dead || tt.look.stopped() != tt.stopped {
			t.Errorf("%+v: dead %v, stopped %v", tt.look, tt.look.dead(), tt.look.stopped())
		}
	}
}

// A system that does not tell when it is ready is back when it accepts a
// connection.
func TestRecoveredWithoutReadyURL(t *testing.T) {
	n, j := startNode(t, testnode.Plain), newInjector()
	target := n.target()
	target.ReadyURL = ""
	pid := n.PID()
	ev := j.Kill(t.Context(), target, 0, func(time.Duration) {})
	check(t, ev, history.Confirmed)
	_, detail := recovered(t, j, ev)
	if detail != fmt.Sprintf("n1: pid %d accepted a connection", n.PID()) || n.PID() == pid {
		t.Errorf("recovered by %q, was pid %d", detail, pid)
	}

	target.ReadyURL = "http://" + n.Addr + "/never"
	if ready, word := target.Ready(t.Context()); ready {
		t.Errorf("ready although it answers 404: %s", word)
	}
}
