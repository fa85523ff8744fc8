package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"statequake/scenarios"
)

// plainEvery is how often a run says how it goes when nobody looks at a terminal.
const plainEvery = 2 * time.Second

// terminal tells whether f is a terminal that shows colours, and how wide it is
// (80 if it is none).
func terminal(f *os.File) (color bool, width int) {
	if !term.IsTerminal(int(f.Fd())) {
		return false, 80
	}
	if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 0 {
		return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb", w
	}
	return false, 80
}

// progress shows a run under way: one line that is redrawn on a terminal, plain
// lines elsewhere. Its methods may be called concurrently.
type progress struct {
	out      *os.File
	live     bool
	scenario *scenarios.Scenario

	mu      sync.Mutex
	ended   bool
	aborted bool      // it was said why
	last    time.Time // of the last plain line
	header  string    // phase and faults of the last plain line
}

func newProgress(out *os.File, s *scenarios.Scenario) *progress {
	return &progress{out: out, live: term.IsTerminal(int(out.Fd())) && os.Getenv("TERM") != "dumb", scenario: s}
}

// begin says what is going to happen.
func (p *progress) begin(dir string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended, p.aborted = false, false
	s := p.scenario
	bug := ""
	if s.System.Bug != "" {
		bug = ", planted bug " + s.System.Bug
	}
	fmt.Fprintf(p.out, "%s: %s x %d, ack %s%s, seed %d, into %s\n", s.Name, s.System.Name, s.System.Nodes, s.System.Ack, bug, s.Seed, dir)
}

// show draws a status.
func (p *progress) show(st scenarios.Status) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return
	}
	if st.Aborted != "" && !p.aborted {
		p.aborted = true
		p.clear()
		fmt.Fprintln(p.out, st.Aborted)
	}
	if p.live {
		_, width := terminal(p.out)
		fmt.Fprintf(p.out, "\r\x1b[K%s", clip(statusLine(st), width-1))
		return
	}
	header := st.Phase + strings.Join(st.Faults, ",")
	if header == p.header && time.Since(p.last) < plainEvery {
		return
	}
	p.header, p.last = header, time.Now()
	fmt.Fprintln(p.out, statusLine(st))
}

// say writes a line of its own.
func (p *progress) say(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	fmt.Fprintln(p.out, text)
}

// end removes the line that is redrawn.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	p.ended = true
}

func (p *progress) clear() {
	if p.live && !p.ended {
		io.WriteString(p.out, "\r\x1b[K")
	}
}

// statusLine is one status in words, most important first.
func statusLine(st scenarios.Status) string {
	line := fmt.Sprintf("%-8s %4.1f/%g s", st.Phase, st.Elapsed.Seconds(), st.Total.Seconds())
	l := st.Load
	if l.Dispatched > 0 {
		line += fmt.Sprintf("  %4.0f ok/s  p50 %s  p99 %s  ok %d  errors %d  in flight %d",
			l.AchievedRate, millis(l.P50), millis(l.P99), l.OK, l.Fail+l.Info+l.Unsent, l.InFlight)
	}
	if st.Violations > 0 {
		line += "  " + strings.ToUpper(plural(st.Violations, "violation"))
	}
	if len(st.Faults) > 0 {
		line += "  FAULT " + strings.Join(st.Faults, ", ")
	}
	return line
}

func millis(d time.Duration) string {
	if d >= time.Second {
		return fmt.Sprintf("%.2f s", d.Seconds())
	}
	return fmt.Sprintf("%.1f ms", float64(d)/1e6)
}

func clip(line string, width int) string {
	if len(line) > width && width > 0 {
		return line[:width]
	}
	return line
}
