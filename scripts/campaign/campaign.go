// Package campaign runs the program from outside, again and again.
package campaign

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"statequake/fixtures/sandbox/leftover"
	"statequake/history"
)

// leftWithin is how long after its end something of a run may still be there.
const leftWithin = 5 * time.Second

// Run is one run of the program.
type Run struct {
	Binary string
	Dir    string   // run directory; beside it are Dir.log and Dir.json, an Outcome
	Args   []string // of statequake run: the scenario and --set
	Resume bool     // if the same run is already there, take it as it is

	Output io.Writer // gets what the program says when it says it; may be nil
}

// Outcome is how a run ended.
type Outcome struct {
	Args    []string      `json:"args"`
	Code    int           `json:"exit_code"`
	Took    time.Duration `json:"took_ns"`
	Left    []string      `json:"left"`        // what was still there after LeftFor
	LeftFor time.Duration `json:"left_for_ns"` // until nothing was left, or until nobody waited any more
	Spaces  int           `json:"namespaces"`  // that the run was seen to have
	Resumed bool          `json:"-"`
}

// Failed is the verdict of a run that ended with an error of its own.
const Failed = "error"

// exitFailed is the program's exit code then.
const exitFailed = 3

// Verdict is what scripts read from verdict.json.
type Verdict struct {
	Verdict  string   `json:"verdict"` // or Failed
	Reasons  []string `json:"reasons"`
	LostAcks *int     `json:"lost_acks"`
	Load     struct {
		Generator string `json:"generator"`
	} `json:"load"`
	Checks []struct {
		Violations []struct {
			Kind string   `json:"kind"`
			Ops  []string `json:"ops"`
		} `json:"violations"`
	} `json:"checks"`
	Faults       []Fault       `json:"faults"`
	Expectations []Expectation `json:"expectations"`
}

// Expectation is one in verdict.json.
type Expectation struct {
	Name string `json:"name"`
	Met  bool   `json:"met"`
}

// Fault is one fault in verdict.json. Instants are on the run clock, nil if
// there was none.
type Fault struct {
	Name      string         `json:"name"`
	Requested *time.Duration `json:"requested_ns"`
	Injected  *time.Duration `json:"injected_ns"`
	Recovered *time.Duration `json:"recovered_ns"`
	Evidence  struct {
		Verdict history.Proof `json:"verdict"`
		Detail  string        `json:"detail"`
	} `json:"evidence"`
	Recovery struct {
		Outage struct {
			Max *time.Duration `json:"max"`
		} `json:"outage_ns"`
		LostAcks *int           `json:"lost_acks"`
		RPO      *time.Duration `json:"rpo_ns"`
	} `json:"recovery"`
}

// Do makes the run, or takes the one that is there. Of a run that failed the
// verdict is Failed, with what it said as the reason. The error says that the
// program could not be run, was interrupted, or gave no verdict.
func (r Run) Do(ctx context.Context) (Outcome, *Verdict, error) {
	if r.Resume {
		if out, v := r.done(); v != nil {
			return out, v, nil
		}
	}
	for _, path := range []string{r.Dir, r.Dir + ".json", r.Dir + ".log"} {
		if err := os.RemoveAll(path); err != nil {
			return Outcome{}, nil, err
		}
	}
	if err := os.MkdirAll(filepath.Dir(r.Dir), 0o755); err != nil {
		return Outcome{}, nil, err
	}
	// A name of its own tells the processes of this run from all others.
	binary := r.Dir + ".bin"
	if err := link(r.Binary, binary); err != nil {
		return Outcome{}, nil, err
	}
	defer os.Remove(binary)
	watch, err := leftover.Begin(binary, r.Dir)
	if err != nil {
		return Outcome{}, nil, err
	}
	began := time.Now()
	cmd := exec.CommandContext(ctx, binary, slices.Concat([]string{"run"}, r.Args, []string{"--out", r.Dir})...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	var text bytes.Buffer
	cmd.Stdout = &text
	if r.Output != nil {
		cmd.Stdout = io.MultiWriter(&text, r.Output)
	}
	cmd.Stderr = cmd.Stdout
	err = cmd.Run()
	out := Outcome{Args: r.Args, Took: time.Since(began), Spaces: watch.Namespaces()}
	left, took := watch.Left(leftWithin)
	out.LeftFor = took
	for _, thing := range left {
		out.Left = append(out.Left, thing.String())
	}
	if ctx.Err() != nil {
		return out, nil, errors.New("interrupted")
	}
	if exited := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exited) {
		return out, nil, err
	}
	out.Code = cmd.ProcessState.ExitCode()
	if err := os.WriteFile(r.Dir+".log", text.Bytes(), 0o644); err != nil {
		return out, nil, err
	}
	v, err := readVerdict(r.Dir)
	if err != nil && out.Code == exitFailed {
		return out, &Verdict{Verdict: Failed, Reasons: []string{complaint(text.String())}}, nil
	}
	if err != nil {
		return out, nil, fmt.Errorf("exit code %d without a verdict: %w\n%s", out.Code, err, text.Bytes())
	}
	record, err := json.Marshal(out)
	if err == nil {
		err = os.WriteFile(r.Dir+".json", record, 0o644)
	}
	return out, v, err
}

// complaint is the error in what the program said, without what follows on it.
func complaint(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for _, line := range lines {
		if said, ok := strings.CutPrefix(line, "statequake: "); ok {
			return said
		}
	}
	return lines[len(lines)-1]
}

// link gives a program another name, which must be on the same file system as
// the program, or it is copied.
func link(program, name string) error {
	if err := os.RemoveAll(name); err != nil {
		return err
	}
	path, err := filepath.EvalSymlinks(program)
	if err != nil {
		return err
	}
	if os.Link(path, name) == nil {
		return nil
	}
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Close())
}

// done is the same run, if it was made and judged before; else the verdict is
// nil.
func (r Run) done() (Outcome, *Verdict) {
	record, err := os.ReadFile(r.Dir + ".json")
	if err != nil {
		return Outcome{}, nil
	}
	var out Outcome
	if json.Unmarshal(record, &out) != nil || !slices.Equal(out.Args, r.Args) {
		return Outcome{}, nil
	}
	v, err := readVerdict(r.Dir)
	if err != nil {
		return Outcome{}, nil
	}
	out.Resumed = true
	return out, v
}

// readVerdict reads the verdict of a run directory.
func readVerdict(dir string) (*Verdict, error) {
	file := filepath.Join(dir, "verdict.json")
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	v := new(Verdict)
	if err := json.Unmarshal(data, v); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return v, nil
}

// Violations are the kinds of violation that were found, each as often as it was.
func (v *Verdict) Violations() []string {
	var kinds []string
	for _, c := range v.Checks {
		for _, x := range c.Violations {
			kinds = append(kinds, x.Kind)
		}
	}
	return kinds
}

// Causes of a run that says nothing about the system: the machine had no time
// for the load generator, or it had too little.
const (
	starved = "the load generator was starved"
	tooSlow = "the load generator was too slow"
)

// OnlyStarved tells whether an unknown verdict is to be blamed on nothing but a
// starved load generator.
func (v *Verdict) OnlyStarved() bool {
	causes := v.Causes()
	return v.Verdict == "unknown" && slices.Contains(causes, starved) &&
		!slices.ContainsFunc(causes, func(cause string) bool { return cause != starved && cause != tooSlow })
}

// Causes are what a verdict that is unknown, or Failed, is to be blamed on, each
// once, by name.
func (v *Verdict) Causes() []string {
	causes := map[string]bool{}
	for _, reason := range v.Reasons {
		if cause := causeOf(reason); cause != "" {
			causes[cause] = true
		}
	}
	if len(causes) == 0 {
		causes["no reason given"] = true
	}
	return slices.Sorted(maps.Keys(causes))
}

// causeOf sorts a reason of a verdict by what is to blame; "" for one that is
// only a note.
func causeOf(reason string) string {
	for _, known := range []struct{ part, cause string }{
		{"load generator did not get to run", starved},
		{"of the requested rate", tooSlow},
		{"due operations (", tooSlow},
		{"but never injected", "a fault was not seen"},
		{"never requested", "a fault did not start"},
		{"is not proven: its evidence is mismatch", "the evidence of a fault does not match"},
		{"is not proven", "the evidence of a fault is inconclusive"},
		{"check is undecided", "a check is undecided"},
		{"No operation of the load", "nothing was answered"},
		{"No check applies", "nothing was checked"},
		{"could not be read", "the record is damaged"},
		{"send lag p99", ""},
		{"was not seen to end", ""},
		{"The expectation", ""},
		{"was stopped early", ""},
	} {
		if strings.Contains(reason, known.part) {
			return known.cause
		}
	}
	return reason
}

// Each calls do for 0 to n-1, so many at a time, until one fails or ctx ends,
// and returns the first error.
func Each(ctx context.Context, n, atOnce int, do func(ctx context.Context, i int) error) error {
	if atOnce < 1 {
		return fmt.Errorf("-parallel %d: nothing would run", atOnce)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var working sync.WaitGroup
	for range min(n, atOnce) {
		working.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := do(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	working.Wait()
	return context.Cause(ctx)
}

// Quantile is the smallest of the values that at least the share q of them does
// not exceed (nearest rank); 0 if there are none. It sorts them.
func Quantile(values []time.Duration, q float64) time.Duration {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	rank := int(math.Ceil(q * float64(len(values))))
	return values[min(max(rank, 1), len(values))-1]
}

// Words writes a duration with three figures.
func Words(d time.Duration) string {
	s := math.Abs(d.Seconds())
	switch {
	case s >= 9.995:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case s >= 0.9995:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case s >= 0.00995:
		return fmt.Sprintf("%.0f ms", 1e3*d.Seconds())
	}
	return fmt.Sprintf("%.1f ms", 1e3*d.Seconds())
}
