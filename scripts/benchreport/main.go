// Benchreport says what the reports of a run of a given size take: time, CPU time,
// the largest resident set, and the size of report.html. It writes such a run
// with scripts/bighistory, reports on it N times with bin/statequake report, which
// judges it again each time, and then measures what is done once it is judged,
// part by part, with BenchmarkReport of package reports, N times too.
//
//	go run ./scripts/benchreport -ops 10000000 -n 3
//
// Each figure is a median with the least and the most.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	var m measurement
	flag.IntVar(&m.ops, "ops", 1_000_000, "operations of the run")
	flag.IntVar(&m.n, "n", 3, "how often everything is measured")
	flag.StringVar(&m.binary, "bin", "bin/statequake", "the program")
	flag.StringVar(&m.dir, "dir", "", "where to write the run, 380 bytes per operation (a temporary folder, which is removed)")
	flag.Parse()
	if flag.NArg() > 0 || m.ops < 1 || m.n < 1 {
		fmt.Fprintln(os.Stderr, "usage: benchreport [-ops N] [-n N] [-bin FILE] [-dir DIR]")
		os.Exit(3)
	}
	if err := m.run(); err != nil {
		fmt.Fprintf(os.Stderr, "benchreport: %v\n", err)
		os.Exit(3)
	}
}

type measurement struct {
	ops, n      int
	binary, dir string

	names   []string // of the figures, in the order in which they were seen
	figures map[string][]float64
}

func (m *measurement) run() error {
	dir := m.dir
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "benchreport-*"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	}
	if _, err := os.Stat(filepath.Join(dir, "history.jsonl")); err != nil {
		if _, err := output(exec.Command("go", "run", "./scripts/bighistory", "-ops", strconv.Itoa(m.ops), dir)); err != nil {
			return err
		}
	}
	for range m.n {
		cmd := exec.Command(m.binary, "report", dir)
		began := time.Now()
		if _, err := output(cmd); err != nil {
			return err
		}
		m.add("statequake report, judging included: time", "s", time.Since(began).Seconds())
		used := cmd.ProcessState.SysUsage().(*syscall.Rusage)
		m.add("statequake report, judging included: CPU time", "s", (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds())
		m.add("statequake report, judging included: max RSS", "MiB", float64(used.Maxrss)/1024)
		page, err := os.Stat(filepath.Join(dir, "report.html"))
		if err != nil {
			return err
		}
		m.add("report.html", "bytes", float64(page.Size()))
	}
	cmd := exec.Command("go", "test", "-run", "^$", "-bench", "^BenchmarkReport$", "-benchtime", "1x", "-count", strconv.Itoa(m.n), "./reports")
	cmd.Env = append(os.Environ(), "STATEQUAKE_OPS="+strconv.Itoa(m.ops))
	out, err := output(cmd)
	if err != nil {
		return err
	}
	m.benchmark(out)
	fmt.Printf("%d operations, n = %d: median [least, most]\n", m.ops, m.n)
	for _, name := range m.names {
		values := m.figures[name]
		slices.Sort(values)
		fmt.Printf("  %-55s %10.2f [%.2f, %.2f]\n", name, (values[(len(values)-1)/2]+values[len(values)/2])/2, values[0], values[len(values)-1])
	}
	return nil
}

func (m *measurement) add(name, unit string, value float64) {
	name += ", " + unit
	if m.figures == nil {
		m.figures = map[string][]float64{}
	}
	if m.figures[name] == nil {
		m.names = append(m.names, name)
	}
	m.figures[name] = append(m.figures[name], value)
}

// benchmark takes the figures out of what go test printed: a name, a count, and
// pairs of a value and its unit.
func (m *measurement) benchmark(out []byte) {
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "BenchmarkReport/") {
			continue
		}
		part, _, _ := strings.Cut(strings.TrimPrefix(fields[0], "BenchmarkReport/"), "-")
		for i := 2; i+1 < len(fields); i += 2 {
			value, err := strconv.ParseFloat(fields[i], 64)
			if err != nil {
				continue
			}
			switch fields[i+1] {
			case "ns/op":
				m.add("judged, then "+part+": time", "s", value/1e9)
			case "cpu-ns/op":
				m.add("judged, then "+part+": CPU time", "s", value/1e9)
			case "maxRSS-bytes":
				m.add("judged, then "+part+": max RSS so far", "MiB", value/(1<<20))
			}
		}
	}
}

// output runs a command, whose errors are told by what it said.
func output(cmd *exec.Cmd) ([]byte, error) {
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w\n%s%s", strings.Join(cmd.Args, " "), err, out.Bytes(), errs.Bytes())
	}
	return out.Bytes(), nil
}
