package main

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/mattn/go-runewidth"

	"statequake/history"
	"statequake/loadgen"
	"statequake/reports/stats"
	"statequake/scenarios"
)

func at(seconds float64) *time.Duration {
	d := time.Duration(seconds * 1e9)
	return &d
}

// busy is a run in which everything happens at once.
func busy() *view {
	st := scenarios.Status{
		At: *at(21.4), Phase: "load", Elapsed: *at(18.2), Total: *at(30), LoadEnd: *at(33.2),
		Requested: 500, Looked: true, Violations: 12,
		Load: loadgen.Stats{
			Dispatched: 9105, OK: 9043, Fail: 20, Info: 11, Unsent: 4, InFlight: 27, AchievedRate: 431,
			P50: 1730 * time.Microsecond, P99: 154 * time.Millisecond,
			LagP50: 127 * time.Microsecond, LagP99: 2930 * time.Microsecond, LagMax: 22700 * time.Microsecond,
		},
		Faults: []scenarios.FaultStatus{
			{Name: "kill-owner", Kind: "PodChaos", Action: "pod-kill", Targets: []string{"n1"}, When: "at 8s", Due: at(11.2), Requested: at(11.2), Injected: at(11.209), Recovered: at(12.4),
				Proof: history.Confirmed, Detail: "n1: pid 17 ran no more 0.6 ms after SIGKILL and was gone after 9.3 ms; 127.0.0.1:21487 refused a connection"},
			{Name: "slow-disk", Kind: "IOChaos", Action: "latency", When: "at 16s", Due: at(19.2), Requested: at(19.2), Targets: []string{"n3"}, Proof: history.Inconclusive, Detail: "no file of n3 was written"},
			{Name: "pause-two", Kind: "ProcessPause", Targets: []string{"n2", "n4"}, When: "at 17s", Due: at(20.2), Lasts: 4 * time.Second, Requested: at(20.2), Injected: at(20.207), Active: true},
			{Name: "down", Kind: "PodChaos", Action: "pod-failure", Targets: []string{"n5"}, When: "at 15s", Due: at(18.2), Lasts: 2 * time.Second, Requested: at(18.2), Injected: at(18.21), Active: true,
				Proof: history.Confirmed, Detail: "n5: was down for 2.0 s"},
			{Name: "late", Kind: "StressChaos", When: "at 27s", Due: at(30.2)},
			{Name: "on-write", Kind: "PowerLoss", When: "on write 500 of *"},
			{Name: "next", Kind: "NetworkChaos", Action: "partition", When: "within 20s to 24s", Due: at(24.6)},
		},
		Nodes: []scenarios.NodeStatus{
			{Name: "n1", State: "up", CPU: 0.28, RSS: 123 << 20, Hottest: true},
			{Name: "n2", State: "paused", CPU: 0, RSS: 133 << 20},
			{Name: "n3", State: "up", CPU: 1.93, RSS: 1400 << 20},
			{Name: "n4", State: "paused", CPU: 0, RSS: 99 << 20},
			{Name: "n5", State: "restarting", CPU: -1},
		},
		Findings: []scenarios.Finding{
			{Entity: "cart", Key: "cart-17", Kind: "lost", Explanation: "add of tea was acknowledged at 12.1 s and is gone"},
			{Entity: "cart", Key: "cart-4", Kind: "duplicated", Explanation: "add of milk was executed twice"},
		},
	}
	v := &view{title: "quickstart: reference x 5, ack durable, seed 42", status: st, verdict: stats.Valid}
	for i := range 130 {
		ms := 1.7 + 0.3*math.Sin(float64(i)/3)
		tail := 9 + 3*math.Sin(float64(i)/2)
		rate := 500.0
		if i > 100 && i < 106 {
			rate, tail = 310, 600
		}
		v.past.rate, v.past.p50, v.past.p99 = append(v.past.rate, rate), append(v.past.p50, ms), append(v.past.p99, tail)
	}
	return v
}

// starting is a run that has only begun, quiet one without faults whose nodes are
// somebody else's.
func starting() *view {
	return &view{title: "steady: reference x 3, ack durable, seed 1", status: scenarios.Status{At: *at(0.4), Phase: "starting", Elapsed: *at(0.4), Total: *at(30)}}
}

func quiet() *view {
	return &view{title: "own: mine x 2, ack durable, seed 1", verdict: stats.Degraded, status: scenarios.Status{
		At: *at(5), Phase: "recovery", Elapsed: *at(1.5), Total: *at(30),
		Load:  loadgen.Stats{Dispatched: 100, OK: 100, LagMax: time.Millisecond},
		Nodes: []scenarios.NodeStatus{{Name: "n1", CPU: -1}, {Name: "n2", CPU: -1}},
	}}
}

// hostile is a run whose names and errors are made to spoil a terminal.
func hostile() *view {
	v := busy()
	v.title = "evil\x1b[2J\x1b]0;owned\x07 \u202egnp.exe"
	v.status.Aborted = "aborted\r\n\x1b[31mafter\u009b5A it \xff failed"
	f := &v.status.Faults[2]
	f.Name, f.Targets = "x\x1b[1;1H\n", []string{"日本語のノード", "e\u0301\u0301\u0301"}
	v.status.Faults[3].Detail = strings.Repeat("長い証拠\x1b[0m", 100)
	v.status.Nodes[1].Name = "日本語のノード名前はとても長い"
	v.status.Nodes[2].Name = "\x1b[H\x1b[2J"
	v.status.Nodes[3].Name = ""
	v.status.Nodes[3].State = "pau\x1bsed"
	v.status.Findings[0] = scenarios.Finding{Entity: "cart", Key: "\x1b[8mhidden\u200b\u2066", Kind: "lo\nst", Explanation: "👩‍👩‍👧‍👦 \x00"}
	v.note = "judging\x9b2J"
	return v
}

var sizes = [][2]int{{80, 24}, {40, 10}, {20, 5}, {200, 60}}

// TestViewGolden: what the view looks like at several sizes. -update writes the
// files.
func TestViewGolden(t *testing.T) {
	for name, v := range map[string]*view{"busy": busy(), "starting": starting(), "quiet": quiet()} {
		for _, size := range sizes {
			for _, l := range []look{{color: true, unicode: true}, {unicode: true}, {}} {
				kind := map[look]string{{color: true, unicode: true}: "color", {unicode: true}: "plain", {}: "ascii"}[l]
				path := filepath.Join("testdata", "view", fmt.Sprintf("%s-%dx%d-%s.txt", name, size[0], size[1], kind))
				lines := v.frame(size[0]-1, size[1]-1, l)
				got := strings.ReplaceAll(strings.Join(lines, "\n")+"\n", "\x1b", "^[")
				if *update {
					if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(want, []byte(got)) {
					t.Errorf("%s is now\n%s\nhint: go test -run TestViewGolden ./cmd/statequake -update", path, got)
				}
			}
		}
	}
}

// TestViewFits: whatever the size and whoever chose the names, a frame has no more
// lines and columns than it may, and no control character but those of colours.
func TestViewFits(t *testing.T) {
	for _, v := range []*view{busy(), starting(), quiet(), hostile(), {}} {
		for width := range 260 {
			for _, height := range []int{0, 1, 2, 3, 5, 9, 23, 59} {
				for _, l := range []look{{color: true, unicode: true}, {}} {
					lines := v.frame(width, height, l)
					if len(lines) > height {
						t.Fatalf("%dx%d: %d lines", width, height, len(lines))
					}
					for _, text := range lines {
						if !l.color && strings.Contains(text, "\x1b") {
							t.Fatalf("%dx%d: a sequence without colours: %q", width, height, text)
						}
						bare := text
						for _, s := range []style{bold, dim, red, green, yellow, cyan, "0"} {
							bare = strings.ReplaceAll(bare, "\x1b["+string(s)+"m", "")
						}
						if w := runewidth.StringWidth(bare); w > width || w != shownWidth(text) {
							t.Fatalf("%dx%d: %d columns, %d by shownWidth: %q", width, height, w, shownWidth(text), text)
						}
						if i := strings.IndexFunc(bare, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
							t.Fatalf("%dx%d: control character at %d of %q", width, height, i, bare)
						}
					}
				}
			}
		}
	}
}

// TestViewDrops: with one line there is the phase, with two the violations, and
// colour says nothing that words do not.
func TestViewDrops(t *testing.T) {
	v := busy()
	for height, want := range []string{"", "load", "VIOLATIONS", "! ", "! "} {
		if text := strings.Join(v.frame(79, height, look{}), "\n"); !strings.Contains(text, want) {
			t.Errorf("%d lines lack %q:\n%s", height, want, text)
		}
	}
	plain := v.frame(79, 23, look{unicode: true})
	for i, l := range v.frame(79, 23, look{color: true, unicode: true}) {
		for _, s := range []style{bold, dim, red, green, yellow, cyan, "0"} {
			l = strings.ReplaceAll(l, "\x1b["+string(s)+"m", "")
		}
		if strings.TrimRight(l, " ") != strings.TrimRight(plain[i], " ") {
			t.Errorf("with colour %q, without %q", l, plain[i])
		}
	}
}

// TestPast: a value per second, the one of the current second is replaced, and
// what a view holds is not changed by the next one.
func TestPast(t *testing.T) {
	var p past
	for i := range 5 * 200 {
		st := scenarios.Status{At: time.Duration(i) * time.Second / 5, Load: loadgen.Stats{Dispatched: 1, AchievedRate: float64(i)}}
		before := p
		last := -1.0
		if n := len(before.rate); n > 0 {
			last = before.rate[n-1]
		}
		p = p.with(&st)
		if n := len(before.rate); n > 0 && before.rate[n-1] != last {
			t.Fatalf("at %v the past changed from %v to %v", st.At, last, before.rate[n-1])
		}
	}
	if len(p.rate) != sparkline || p.rate[sparkline-1] != 999 || p.rate[sparkline-2] != 994 {
		t.Errorf("%d values, the last ones %v", len(p.rate), p.rate[len(p.rate)-2:])
	}
}

// BenchmarkFrame is what one frame costs; a run draws five a second.
func BenchmarkFrame(b *testing.B) {
	v := busy()
	s := &screen{live: true}
	b.ReportAllocs()
	for b.Loop() {
		s.compose(nil, func(w, h int) []string { return v.frame(w, h, look{color: true, unicode: true}) }, 80, 24)
	}
}
