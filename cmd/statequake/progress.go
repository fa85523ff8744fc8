package main

import (
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/term"

	"statequake/history"
	"statequake/reports"
	"statequake/reports/stats"
	"statequake/scenarios"
)

const (
	// plainEvery is how often a run says how it goes when nobody looks at a
	// terminal; a long one less often, see plainShare.
	plainEvery = 2 * time.Second
	// plainShare is how many lines that makes while a run gets as old again as it
	// is, or so: a day has about a thousand.
	plainShare = 150
	// toldEvents is how many events of faults, and how many violations, a run
	// tells in lines of their own.
	toldEvents = 200
	// toldBytes is about how long such a line is at most; the verdict has the rest.
	toldBytes = 500
)

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

// progress shows a run under way: a region that is redrawn on a terminal, plain
// lines elsewhere. Its methods may be called concurrently; nobody waits for a
// terminal that does not take what is written, but for a second.
type progress struct {
	live     bool
	scenario *scenarios.Scenario
	screen   *screen
	look     look

	mu      sync.Mutex
	ended   bool
	view    view
	told    told
	last    time.Time // of the last plain line
	began   time.Time
	header  string // phase and faults of the last plain line
	changes int    // of the header
	resized chan os.Signal
}

// told is what was said of the run under way in lines of their own.
type told struct {
	aborted    bool
	violations int
	lines      int
	proven     map[string]bool // faults by name
	back       map[string]bool
}

func newTold() told { return told{proven: map[string]bool{}, back: map[string]bool{}} }

func newProgress(out *os.File, s *scenarios.Scenario) *progress {
	live := term.IsTerminal(int(out.Fd())) && os.Getenv("TERM") != "dumb"
	p := &progress{live: live, scenario: s, look: lookOf(out), began: time.Now(), told: newTold()}
	p.screen = newScreen(out, live, func() (int, int) { return terminalSize(out) })
	if live {
		notSuspended()
		p.resized = make(chan os.Signal, 1)
		signal.Notify(p.resized, syscall.SIGWINCH)
		go func() {
			for range p.resized {
				p.screen.again()
			}
		}()
	}
	return p
}

// notSuspended has Ctrl-Z do nothing: a load cannot wait, and what stopped would be
// the process that has the terminal alone. What is started is not affected.
func notSuspended() { signal.Notify(make(chan os.Signal, 1), syscall.SIGTSTP) }

// begin says what is going to happen.
func (p *progress) begin(dir string) {
	s := p.scenario
	bug := ""
	if s.System.Bug != "" {
		bug = ", planted bug " + s.System.Bug
	}
	title := fmt.Sprintf("%s: %s x %d, ack %s%s, seed %d", s.Name, s.System.Name, s.System.Nodes, s.System.Ack, bug, s.Seed)
	p.mu.Lock()
	p.ended, p.began, p.header, p.changes, p.last = false, time.Now(), "", 0, time.Time{}
	p.view = view{title: title}
	p.told = newTold()
	p.mu.Unlock()
	p.say(reports.Harmless(title) + ", into " + dir)
}

// show draws a status. It does not wait.
func (p *progress) show(st scenarios.Status) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return
	}
	for _, l := range p.told.events(&st) {
		p.screen.print(l)
	}
	p.view.status, p.view.past, p.view.verdict = st, p.view.past.with(&st), generatorSoFar(&st)
	if p.live {
		v, look := p.view, p.look
		p.screen.draw(func(width, height int) []string { return v.frame(width, height, look) })
		return
	}
	header := st.Phase + faultsNow(&st)
	if header != p.header {
		if p.changes++; p.changes <= toldEvents {
			p.last = time.Time{}
		}
	}
	if time.Since(p.last) < plainPause(time.Since(p.began)) {
		return
	}
	p.header, p.last = header, time.Now()
	p.screen.print(statusLine(st))
}

// plainPause is the time from a plain line to the next one of a run that has taken
// so long.
func plainPause(elapsed time.Duration) time.Duration { return max(plainEvery, elapsed/plainShare) }

// generatorSoFar is the verdict on the generator by its samples so far.
func generatorSoFar(st *scenarios.Status) stats.Fitness {
	sample := st.Generator
	if sample.Node == "" || sample.Dispatched == 0 {
		return ""
	}
	sample.Node = stats.GeneratorNode
	sample.LagP50, sample.LagP99, sample.LagMax = st.Load.LagP50, st.Load.LagP99, st.Load.LagMax
	sample.StallMax = max(sample.StallMax, st.Load.StallMax)
	g := stats.JudgeGenerator([]history.Sample{sample}, st.LoadEnd, st.Due, 0, 0)
	return g.Verdict
}

// events are lines about what happened since the last status: evidence of faults,
// the return of their targets, violations, and the end of the run by a condition.
func (t *told) events(st *scenarios.Status) (lines []string) {
	add := func(format string, args ...any) {
		if t.lines++; t.lines <= toldEvents {
			lines = append(lines, reports.Clip(fmt.Sprintf(format, args...), toldBytes))
		}
	}
	for i := range st.Faults {
		f := &st.Faults[i]
		if f.Proof != "" && !t.proven[f.Name] {
			t.proven[f.Name] = true
			add("%.1f s  fault %s: %s: %s", st.At.Seconds(), strings.TrimSpace(f.Name+" "+strings.Join(f.Targets, ",")), f.Proof, f.Detail)
		}
		if f.Recovered != nil && !t.back[f.Name] {
			t.back[f.Name] = true
			after := ""
			if f.Injected != nil {
				after = " after " + reports.Duration(*f.Recovered-*f.Injected)
			}
			add("%.1f s  fault %s: back%s", st.At.Seconds(), f.Name, after)
		}
	}
	for ; t.violations < len(st.Findings); t.violations++ {
		f := st.Findings[t.violations]
		add("%.1f s  VIOLATION: %s on %s/%s: %s", st.At.Seconds(), f.Kind, f.Entity, f.Key, f.Explanation)
	}
	if st.Aborted != "" && !t.aborted {
		t.aborted = true
		lines = append(lines, reports.Clip(st.Aborted, toldBytes))
	}
	return lines
}

// say writes text of its own, which may have several lines, all of them ours.
func (p *progress) say(text string) {
	p.screen.print(text)
	p.screen.flush()
}

// stage says what is done after the run itself.
func (p *progress) stage(what string) {
	if !p.live {
		p.say(what)
		return
	}
	p.mu.Lock()
	title := p.view.title
	p.mu.Unlock()
	p.draw(title + "\n" + what)
}

// end removes the region that is redrawn. What is printed by others comes after
// it.
func (p *progress) end() {
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	p.screen.draw(nil)
	p.screen.flush()
}

// draw puts text, one line or several, in the place of what was drawn last on a
// terminal. It does not wait.
func (p *progress) draw(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.live || p.ended {
		return
	}
	lines, look := strings.Split(text, "\n"), p.look
	p.screen.draw(func(width, height int) []string {
		var rows []row
		for i, l := range lines {
			rows = append(rows, line(i, span{l, plain}))
		}
		var frame []string
		for _, r := range fit(rows, height) {
			frame = append(frame, r.text(width, look))
		}
		return frame
	})
}

// faultsNow names the faults in progress and their targets.
func faultsNow(st *scenarios.Status) string {
	var names []string
	for _, f := range st.Faults {
		if f.Active {
			names = append(names, f.Name+" "+strings.Join(f.Targets, ","))
		}
	}
	return strings.Join(names, ", ")
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
	if faults := faultsNow(&st); faults != "" {
		line += "  FAULT " + faults
	}
	return reports.Harmless(line)
}

func millis(d time.Duration) string {
	if d >= time.Second {
		return fmt.Sprintf("%.2f s", d.Seconds())
	}
	return fmt.Sprintf("%.1f ms", float64(d)/1e6)
}

// phases are those of a run, each the first word of a plain line that says how it
// goes, and what follows the run.
var phases = []string{"starting", "warmup", "load", "recovery", "drain", "audit", "stopping", "judging"}
