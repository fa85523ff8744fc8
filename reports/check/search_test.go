package check

import (
	"bytes"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"statequake/history"
	"statequake/reports/check/search"
)

// hard is a register on which n clients write the same few values all at once,
// and of which a read answers what nobody wrote: every order fails.
func hard(n int) []*history.Op {
	var ops []*history.Op
	for i := range n {
		ops = append(ops, &history.Op{
			ID: fmt.Sprintf("w%d", i), Entity: registerEntity, Key: "k", Name: "set", Args: json.RawMessage(fmt.Sprintf(`{"value":"v%d"}`, i)),
			Sent: 0, Returned: time.Second, Outcome: history.OK, Attempts: 1,
		})
	}
	return append(ops, &history.Op{
		ID: "r", Entity: registerEntity, Key: "k", Name: "get", Sent: 0, Returned: time.Second, Outcome: history.OK, Result: json.RawMessage(`{"value":"x"}`), Attempts: 1,
	})
}

// TestSearchMemory: a search that would take any amount of memory ends when it
// has what it may have, and says so.
func TestSearchMemory(t *testing.T) {
	ops := hard(40)
	for _, limit := range []int64{4 << 20, 16 << 20} {
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		_, err := linearizable(registerEntity, ops, never, search.Budget{Time: time.Minute, Memory: limit})
		runtime.ReadMemStats(&after)
		took := time.Since(start)
		// What is not yet collected counts too, so it is less than what was
		// allocated, and at least what is kept.
		t.Logf("limit %d MiB: %v after %s, %d MiB allocated", limit>>20, err, took, (after.TotalAlloc-before.TotalAlloc)>>20)
		if err != search.ErrMemory {
			t.Errorf("limit %d MiB: %v", limit>>20, err)
		}
		if kept := int64(after.HeapAlloc) - int64(before.HeapAlloc); kept > 2*limit+16<<20 {
			t.Errorf("limit %d MiB: the heap grew by %d MiB", limit>>20, kept>>20)
		}
	}
	if _, err := linearizable(registerEntity, ops, never, search.Budget{Time: 50 * time.Millisecond}); err != search.ErrTime {
		t.Errorf("50 ms: %v", err)
	}
}

// TestSearchRunsOut: a key on which the search runs out is unknown, with the
// reason.
func TestSearchRunsOut(t *testing.T) {
	run := &history.Run{}
	for _, op := range hard(40) {
		op.Phase = history.Load
		run.Ops = append(run.Ops, *op)
	}
	// One value twice, so that it is left to the search.
	run.Ops[1].Args = run.Ops[0].Args
	run.Footer = footer(run.Ops)
	r := find(Run(run, Options{Ack: Durable, PorcupineTime: time.Minute, PorcupineMemory: 1 << 20}), "porcupine")
	if r.Verdict != Unknown || r.Undecided != 1 || !strings.HasPrefix(r.Reasons[0], "keys not decided (memory for each of them: 1 MiB)") {
		t.Errorf("out of memory: %+v", r)
	}
	r = find(Run(run, Options{Ack: Durable, PorcupineTime: 50 * time.Millisecond}), "porcupine")
	if r.Verdict != Unknown || r.Undecided != 1 || !strings.HasPrefix(r.Reasons[0], "keys not decided (time for all of them: 50ms)") {
		t.Errorf("out of time: %+v", r)
	}
}

// TestDrawing: what a system says gets into a drawing as text, and the page
// asks nobody for anything.
func TestDrawing(t *testing.T) {
	const nasty = `</script><img src=https://example.com/x onerror=\"document.title='taken'\">`
	state := map[string]string{"plain": "a", "nasty": nasty}
	pages := map[string][]byte{}
	for name, value := range state {
		run := mustParse(t, "0-1 n1 set a on register/r A -> {}\n0-1 n1 set b on register/r A -> {}\n2-3 n1 get r on register/r -> B\n8-9 n1 audit-get z on register/r -> A")
		for i := range run.Ops {
			op := &run.Ops[i]
			op.Args = bytes.ReplaceAll(op.Args, []byte(`"A"`), []byte(`"`+value+`"`))
			op.Result = bytes.ReplaceAll(op.Result, []byte(`"A"`), []byte(`"`+value+`"`))
			op.Key = "<b>" + name
		}
		r := find(Run(run, Options{Ack: Durable, PorcupineTime: time.Minute}), "porcupine")
		if r.Verdict != Violated || len(r.Violations[0].Drawing) == 0 {
			t.Fatalf("%s: %+v", name, r)
		}
		pages[name] = r.Violations[0].Drawing
		for range 10 {
			again := find(Run(run, Options{Ack: Durable, PorcupineTime: time.Minute}), "porcupine")
			if !bytes.Equal(again.Violations[0].Drawing, pages[name]) {
				t.Errorf("%s: judged again, the page is another", name)
			}
		}
	}
	page := string(pages["nasty"])
	for _, what := range []string{"<img", "<b>", "</script><"} {
		if strings.Contains(page, what) {
			t.Errorf("the page contains %s", what)
		}
	}
	if !strings.Contains(page, `content="default-src 'none';`) || !strings.Contains(page, `\u003c/script\u003e\u003cimg src=`) {
		t.Error("the page lacks its policy, or what the system said")
	}
	// Porcupine's script puts states into the page as HTML.
	if got := describeState(folded{fingerprint: "<img>&"}); got != "&lt;img&gt;&amp;" {
		t.Errorf("a state is shown as %s", got)
	}
	if a, b := strings.Count(page, "<"), strings.Count(string(pages["plain"]), "<"); a != b {
		t.Errorf("%d tags with a hostile system, %d without", a, b)
	}
	plain := strings.ReplaceAll(string(pages["plain"]), "http://www.w3.org/2000/svg", "")
	for _, fetch := range []string{"http:", "https:", "src=", "href=", "fetch(", "XMLHttpRequest", "WebSocket", "import(", "sendBeacon", "@import", "url("} {
		if strings.Contains(plain, fetch) {
			t.Errorf("the page uses %s", fetch)
		}
	}
}
