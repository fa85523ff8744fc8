package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
	"unicode"

	"statequake/loadgen"
	"statequake/scenarios"
)

// TestScreenIsNotRead: nobody waits for a pipe that nobody reads, what does not
// fit is counted, and all goes on when somebody reads again.
func TestScreenIsNotRead(t *testing.T) {
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	defer in.Close()
	s := newScreen(in, true, func() (int, int) { return 80, 24 })
	v := busy()
	began := time.Now()
	for i := range 5000 { // more than the pipe holds
		s.print(fmt.Sprintf("line %d %s", i, strings.Repeat("x", 200)))
		s.draw(func(w, h int) []string { return v.frame(w, h, look{}) })
	}
	if took := time.Since(began); took > heardWithin/2 {
		t.Errorf("5000 lines and frames took %v", took)
	}
	if s.flush() {
		t.Error("all was written, and nobody read it")
	}
	if took := time.Since(began); took > 3*heardWithin {
		t.Errorf("waiting for nobody took %v", took)
	}

	read := make(chan string)
	go func() {
		var text strings.Builder
		buf := make([]byte, 1<<16)
		for !strings.Contains(text.String(), "the end") {
			n, err := out.Read(buf)
			text.Write(buf[:n])
			if err != nil {
				break
			}
		}
		read <- text.String()
	}()
	for deadline := time.Now().Add(10 * time.Second); !s.flush(); {
		if time.Now().After(deadline) {
			t.Fatal("it does not go on")
		}
	}
	s.print("the end")
	text := <-read
	if !strings.Contains(text, "line 0 ") || !strings.Contains(text, "lines left out: nobody read") || strings.Count(text, "line ") > 2*waitingLines+500 {
		t.Errorf("%d lines were written", strings.Count(text, "line "))
	}
}

// TestPlainLines: without a terminal a run of any length says something, without
// control sequences, in a bounded number of lines.
func TestPlainLines(t *testing.T) {
	out, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	p := newProgress(out, &scenarios.Scenario{Name: "plain"})
	p.begin("dir")
	st := busy().status
	for i := range 1000 {
		st.At = time.Duration(i) * time.Second / 5
		st.Findings = nil
		p.show(st)
		if i%10 == 0 {
			st.Faults[2].Active = !st.Faults[2].Active
		}
	}
	p.end()
	text, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if strings.Contains(string(text), "\x1b") || len(lines) < 10 || len(lines) > 150 {
		t.Errorf("%d lines:\n%.2000s", len(lines), text)
	}
	for _, want := range []string{"fault kill-owner n1: confirmed: n1: pid 17", "fault kill-owner: back after 1.19 s", "FAULT pause-two n2,n4"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is missing in\n%.2000s", want, text)
		}
	}
}

// TestPlainLinesOfADay: the time from one plain line to the next grows with the run.
func TestPlainLinesOfADay(t *testing.T) {
	n := 0
	var last time.Duration
	for at := time.Duration(0); at < 24*time.Hour; at += 200 * time.Millisecond {
		if at-last >= plainPause(at) {
			n, last = n+1, at
		}
	}
	if n < 200 || n > 1500 {
		t.Errorf("%d lines a day", n)
	}
}

// TestEvents: lines about faults and violations come once, are bounded in number
// and length, and hold no control characters, whoever chose the names.
func TestEvents(t *testing.T) {
	told := newTold()
	st := hostile().status
	lines := told.events(&st)
	if again := told.events(&st); len(lines) != 7 || len(again) != 0 { // three with evidence, one back, two violations, the end
		t.Errorf("%d lines, then %d:\n%s", len(lines), len(again), strings.Join(lines, "\n"))
	}
	for i := range 1000 {
		f := st.Faults[0]
		f.Name = fmt.Sprintf("fault-%d", i)
		st.Faults = append(st.Faults, f)
	}
	lines = append(lines, told.events(&st)...)
	if len(lines) > toldEvents+1 {
		t.Errorf("%d lines", len(lines))
	}
	for _, l := range lines {
		if len(l) > toldBytes+100 || strings.ContainsFunc(l, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%d bytes: %q", len(l), l)
		}
	}
}

// TestCompose: the region is drawn where it was, below what is printed, and goes
// up as many rows as a terminal that became narrower has made of it.
func TestCompose(t *testing.T) {
	s := &screen{live: true}
	region := func(lines ...string) func(int, int) []string { return func(int, int) []string { return lines } }
	step := func(lines []string, region func(int, int) []string, width int) string {
		return strings.NewReplacer(together, "", shown, "", cutting, "", breaking, "", toEnd, "K", below, "J", "\x1b[", "^").Replace(string(s.compose(lines, region, width, 24)))
	}
	for _, tc := range []struct{ name, got, want string }{
		{"first", step([]string{"said"}, region("one", strings.Repeat("x", 50), "three"), 80), "\rKsaidK\noneK\n" + strings.Repeat("x", 50) + "K\nthreeKJ\r"},
		{"again", step(nil, region("one", strings.Repeat("x", 50), "three"), 80), "\r^2AoneK\n" + strings.Repeat("x", 50) + "K\nthreeKJ\r"},
		// The line of 50 takes 3 rows of 20.
		{"narrow", step(nil, region("a", "b"), 20), "\r^4AK^1BK^1BK^1BK^1BK^4AaK\nbKJ\r"},
		{"gone", step([]string{"said"}, nil, 20), "\r^1AK^1BK^1AsaidK\n\r"},
		{"plain", step([]string{"said"}, nil, 20), "said\n"},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, tc.got, tc.want)
		}
	}
}

// TestGeneratorSoFar: a generator that falls behind is told so while it does.
func TestGeneratorSoFar(t *testing.T) {
	st := scenarios.Status{At: 10 * time.Second, LoadEnd: 20 * time.Second}
	if v := generatorSoFar(&st); v != "" {
		t.Errorf("without a sample: %q", v)
	}
	st.Generator.Node, st.Generator.At, st.Generator.Dispatched = "generator", 10*time.Second, 1000
	st.Load = loadgen.Stats{Dispatched: 1000}
	st.Due = func(time.Duration) int64 { return 1000 }
	if v := generatorSoFar(&st); v != "valid" {
		t.Errorf("all handed out: %q", v)
	}
	st.Due = func(time.Duration) int64 { return 2000 }
	if v := generatorSoFar(&st); v != "invalid" {
		t.Errorf("half handed out: %q", v)
	}
}
