package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"statequake/fixtures/sandbox"
	"statequake/reports/compare"
	"statequake/reports/stats"
)

// redrawEvery is how often the time is drawn on a terminal.
const redrawEvery = time.Second

// tailLines is how much of the output of a run that failed is shown.
const tailLines = 12

// abWatch makes the runs of an ab, one at a time, and shows how far it is.
type abWatch struct {
	ab     *ab
	screen *progress
	began  time.Time // of the first run

	ended   int           // runs
	took    time.Duration // by the runs that ended
	current abRun
	said    string // by the current run, last
	judging bool   // the current run goes on to print its verdict
}

// run makes one run and says how it ended. The error says why it is none. When
// ctx ends the run is asked to stop, once, and waited for.
func (w *abWatch) run(ctx context.Context, r abRun) error {
	w.current, w.said, w.judging = r, "", false
	if w.screen.live {
		w.redraw()
	} else {
		w.screen.say(w.line(time.Since(w.began)))
	}
	dir := w.ab.dir(r)
	file := dir + ".log"
	log, err := os.Create(file)
	if err != nil {
		return err
	}
	defer log.Close()
	began := time.Now()
	code, err := child(ctx, exec.Command(r.side.binary, w.ab.args(r)...), log, w.hear, w.redraw)
	if err != nil {
		return err
	}
	took := time.Since(began)
	switch code {
	case exitPass, 1, 2, 4:
	default:
		return fmt.Errorf("the run ended with exit code %d; the end of %s:\n%s", code, file, tail(file))
	}
	ended, err := readEnded(dir)
	if err != nil {
		return err
	}
	w.ended++
	w.took += took
	w.screen.say(fmt.Sprintf("%s: %s, exit code %d, took %s", w.name(), ended, code, clock(took)))
	return nil
}

// child runs cmd to its end and returns its exit code, -1 if a signal ended it.
// Its output goes to log and to hear, line by line; redraw is called in between.
// When ctx ends cmd is interrupted, once, and waited for.
func child(ctx context.Context, cmd *exec.Cmd, log *os.File, hear func(line string), redraw func()) (int, error) {
	output, input, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer output.Close()
	cmd.Stdout, cmd.Stderr = input, input
	// In a process group of its own Ctrl-C reaches it once: from here.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = sandbox.Start(cmd)
	input.Close()
	if err != nil {
		return 0, err
	}
	stop := context.AfterFunc(ctx, func() { cmd.Process.Signal(os.Interrupt) }) // fails only if it has ended
	defer stop()

	lines := make(chan string)
	go func() {
		defer close(lines)
		for in := bufio.NewReader(output); ; {
			line, err := in.ReadString('\n')
			if line != "" {
				lines <- line
			}
			if err != nil {
				return
			}
		}
	}()
	tick := time.NewTicker(redrawEvery)
	defer tick.Stop()
	var unlogged error
	for open := true; open; {
		var line string
		select {
		case line, open = <-lines:
			if _, err := log.WriteString(line); err != nil {
				unlogged = err // the child is not to wait for a full pipe
			}
			hear(strings.TrimRight(line, "\n"))
		case <-tick.C:
			redraw()
		}
	}
	cmd.Wait() // its error is the exit code, which ProcessState has
	return cmd.ProcessState.ExitCode(), unlogged
}

// hear shows a line of the current run: its progress, not its verdict.
func (w *abWatch) hear(line string) {
	if line == "" || w.judging {
		return
	}
	w.said, w.judging = line, line == "judging"
	if w.screen.live {
		w.redraw()
		return
	}
	w.screen.say(w.name() + "  " + line)
}

func (w *abWatch) redraw() {
	line := w.line(time.Since(w.began))
	if w.said != "" {
		line += "\n  " + w.said
	}
	w.screen.draw(line)
}

// line says how far the ab is when it has taken elapsed.
func (w *abWatch) line(elapsed time.Duration) string {
	total := 2 * w.ab.pairs
	line := fmt.Sprintf("run %d of %d (%s)  elapsed %s", w.ended+1, total, w.name(), clock(elapsed))
	if w.ended > 0 {
		expected := w.took / time.Duration(w.ended) * time.Duration(total)
		line += " of about " + clock(max(expected, elapsed))
	}
	return line
}

func (w *abWatch) name() string {
	return fmt.Sprintf("%s %d/%d", w.current.side.name, w.current.pair, w.ab.pairs)
}

// readEnded says how the run in dir ended: its verdict and 99th percentile. The
// error says why it could not be compared.
func readEnded(dir string) (string, error) {
	if _, err := compare.Load(dir); err != nil {
		return "", err
	}
	data, err := os.ReadFile(filepath.Join(dir, "verdict.json"))
	if err != nil {
		return "", err
	}
	var v struct {
		Verdict string        `json:"verdict"`
		Latency stats.Latency `json:"latency_ns"`
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return "", fmt.Errorf("%s: %w", dir, err)
	}
	if v.Latency.All.N == 0 {
		return fmt.Sprintf("%s, no p99", v.Verdict), nil
	}
	return fmt.Sprintf("%s, p99 %s", v.Verdict, millis(v.Latency.All.P99)), nil
}

// tail is the last lines of a file.
func tail(file string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	for i, line := range lines {
		lines[i] = "  " + line
	}
	return strings.Join(lines[max(0, len(lines)-tailLines):], "\n")
}

// clock writes a duration to the second, as in 4m05s.
func clock(d time.Duration) string {
	d = d.Round(time.Second)
	if d < time.Minute {
		return fmt.Sprintf("%ds", int(d.Seconds()))
	}
	return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
}
