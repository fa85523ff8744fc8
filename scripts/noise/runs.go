package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	partPairs = 2 // A/A pairs that are lost if the campaign is interrupted
	plantRuns = 2 * 2 * 10
	// What a run takes is a guess until some were made.
	guess = 13 * time.Second
)

// bugOptions are the options of the comparisons at the end of the runs with a
// planted bug: none of them may change the exit code.
var bugOptions = [][]string{
	{},
	{"--gate", "default"},
	{"--gate", careful},
	{"--gate", permissive},
}

// Gate files at both ends: one that decides as late as it can, and one that lets
// pass whatever it may.
const (
	careful    = "scripts/noise/gates/careful.yaml"
	permissive = "scripts/noise/gates/permissive.yaml"
)

// campaign is all that is run.
type campaign struct {
	effort
	pairs                 int
	binary, scenario, dir string
	set                   []string
	resume                bool
	out                   io.Writer

	program string // hash of the binary
	runs    int    // in all
	began   time.Time
	done    int           // runs that were made
	kept    int           // runs that were there
	took    time.Duration // by the runs that were made
}

// record is how a call of the program ended, and what it printed.
type record struct {
	Args    []string        `json:"args"`
	Program string          `json:"program_sha256"`
	Code    int             `json:"exit_code"`
	Report  json.RawMessage `json:"report,omitempty"`
}

// begin says what will be done.
func (c *campaign) begin() error {
	f, err := os.Open(c.binary)
	if err != nil {
		return fmt.Errorf("%w\nhint: make build", err)
	}
	defer f.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return err
	}
	c.program = hex.EncodeToString(hash.Sum(nil))
	c.runs = 2*c.pairs + plantRuns + 2*len(bugOptions)
	c.began = time.Now()
	fmt.Fprintf(c.out, "%d runs, about %s if each takes %s; into %s\n", c.runs, words(time.Duration(c.runs)*guess), guess, c.dir)
	return nil
}

// ab calls statequake ab for so many pairs of a scenario. The exit code of the
// comparison is part of the record, whatever it is; an error says that the runs
// could not be made.
func (c *campaign) ab(ctx context.Context, name, scenario string, seed, pairs int, set []string, more ...string) error {
	dir := filepath.Join(c.dir, name)
	args := []string{"ab", scenario, "--pairs", strconv.Itoa(pairs), "--seed", strconv.Itoa(seed), "--order-seed", strconv.Itoa(seed), "--format", "json"}
	for _, s := range set {
		args = append(args, "--set", s)
	}
	args = append(slices.Concat(args, more), "--out", dir)
	if c.resume {
		if r, err := readRecord(dir); err == nil && slices.Equal(r.Args, args) && r.Program == c.program {
			c.kept += 2 * pairs
			fmt.Fprintf(c.out, "%s is there\n", name)
			return nil
		}
	}
	if err := errors.Join(os.RemoveAll(dir), os.RemoveAll(dir+".json")); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, c.binary, args...)
	// Ctrl-C reaches it once, from here: twice would leave runs behind.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	progress, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	var said []string
	began := time.Now()
	for lines := bufio.NewScanner(progress); lines.Scan(); {
		line := lines.Text()
		said = append(said, line)
		if strings.Contains(line, ", took ") {
			c.done++
			c.took += time.Since(began)
			began = time.Now()
			fmt.Fprintf(c.out, "[%d/%d, %s] %s  %s\n", c.done+c.kept, c.runs, c.time(), name, line)
		}
	}
	err = cmd.Wait()
	if ctx.Err() != nil {
		return errors.New("interrupted\nhint: with -resume it goes on here")
	}
	if exited := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exited) {
		return err
	}
	r := record{Args: args, Program: c.program, Code: cmd.ProcessState.ExitCode(), Report: stdout.Bytes()}
	if !json.Valid(r.Report) {
		return fmt.Errorf("%s: exit code %d: %s", name, r.Code, strings.Join(said[max(0, len(said)-12):], "\n"))
	}
	return writeRecord(dir, &r)
}

// time says how long it has taken, and will.
func (c *campaign) time() string {
	elapsed := time.Since(c.began)
	left := c.took / time.Duration(max(c.done, 1)) * time.Duration(c.runs-c.done-c.kept)
	return words(elapsed) + " of about " + words(elapsed+left)
}

func readRecord(dir string) (*record, error) {
	data, err := os.ReadFile(dir + ".json")
	if err != nil {
		return nil, err
	}
	r := new(record)
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("%s.json: %w", dir, err)
	}
	return r, nil
}

func writeRecord(dir string, r *record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return os.WriteFile(dir+".json", append(data, '\n'), 0o644)
}

func words(d time.Duration) string {
	return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
}
