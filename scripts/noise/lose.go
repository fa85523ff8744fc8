package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"statequake/history"
	"statequake/reports/compare"
)

// loseOptions are those of the comparisons with a head that lost a write: none of
// them may change the exit code.
var loseOptions = [][]string{
	{},
	{"--gate", "default"},
	{"--format", "markdown"},
	{"--gate", "default", "--format", "json"},
	{"--paired"},
	{"--paired=false", "--gate", "default"},
	{"--gate", careful},
	{"--gate", permissive},
	{"--gate", permissive, "--format", "markdown"},
}

const historyFile = "history.jsonl"

// losses counts how comparisons with a lost write ended.
type losses struct {
	Program string      `json:"program_sha256"`
	Runs    int         `json:"runs"`       // from which one acknowledged write was taken away
	Codes   map[int]int `json:"exit_codes"` // of statequake compare
}

// lose takes one acknowledged write away from each of ten heads of the A/A pairs, which
// are usable, one at a time, has the run judged again, and compares ten pairs of which that one is
// bad, and the bad run alone.
func (c *campaign) lose(ctx context.Context, pairs []pair) error {
	pairs = pairs[:compare.DefaultPairs]
	dir := filepath.Join(c.dir, "loss")
	if l, err := readLosses(dir); err == nil && c.resume && l.Program == c.program {
		fmt.Fprintln(c.out, "loss is there")
		return nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	l := losses{Program: c.program, Codes: map[int]int{}}
	for bad := range pairs {
		at := filepath.Join(dir, fmt.Sprintf("%02d", bad+1))
		lossy := filepath.Join(at, "lossy")
		if err := takeAck(pairs[bad].dirs[1], lossy, bad); err != nil {
			return err
		}
		l.Runs++
		code, text, err := c.call(ctx, "check", lossy)
		if err != nil {
			return err
		}
		if code != 1 {
			return fmt.Errorf("%s: one acknowledged write is gone, but statequake check ends with %d:\n%s", lossy, code, text)
		}
		for i, p := range pairs {
			head := p.dirs[1]
			if i == bad {
				head = lossy
			}
			for side, target := range map[string]string{"base": p.dirs[0], "head": head} {
				if err := place(target, filepath.Join(at, side, fmt.Sprintf("%04d", i+1))); err != nil {
					return err
				}
			}
		}
		for _, options := range loseOptions {
			for _, sides := range [][]string{{filepath.Join(at, "base"), filepath.Join(at, "head")}, {pairs[bad].dirs[0], lossy}} {
				code, _, err := c.call(ctx, slices.Concat([]string{"compare"}, sides, options)...)
				if err != nil {
					return err
				}
				l.Codes[code]++
			}
		}
		// All but the verdict is there in the runs of aa.
		if err := errors.Join(os.RemoveAll(filepath.Join(at, "base")), os.RemoveAll(filepath.Join(at, "head")), os.Remove(filepath.Join(lossy, historyFile))); err != nil {
			return err
		}
		fmt.Fprintf(c.out, "[%d/%d, %s] loss: one write taken from %s; exit codes of %d comparisons so far: %v\n",
			c.done+c.kept, c.runs, c.time(), pairs[bad].dirs[1], sum(l.Codes), l.Codes)
	}
	data, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "loss.json"), append(data, '\n'), 0o644)
}

func readLosses(dir string) (*losses, error) {
	data, err := os.ReadFile(filepath.Join(dir, "loss.json"))
	if err != nil {
		return nil, err
	}
	l := new(losses)
	return l, json.Unmarshal(data, l)
}

// place makes a link to a run directory.
func place(target, link string) error {
	target, err := filepath.Abs(target)
	if err != nil {
		return err
	}
	return errors.Join(os.MkdirAll(filepath.Dir(link), 0o755), os.Symlink(target, link))
}

func sum(counts map[int]int) (n int) {
	for _, k := range counts {
		n += k
	}
	return n
}

// call runs the program and returns its exit code and what it said.
func (c *campaign) call(ctx context.Context, args ...string) (code int, text string, err error) {
	cmd := exec.CommandContext(ctx, c.binary, args...)
	out, err := cmd.CombinedOutput()
	if exited := (*exec.ExitError)(nil); err != nil && (ctx.Err() != nil || !errors.As(err, &exited)) {
		return 0, "", err
	}
	return cmd.ProcessState.ExitCode(), string(out), nil
}

// takeAck copies a run, but with the last write of one key gone from what its
// audit read, as if the key had lost it: the write was acknowledged in the load. Of
// the keys that can have lost one, number nth is taken.
func takeAck(from, to string, nth int) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"scenario.yaml", "faults.jsonl", "samples.jsonl"} {
		data, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, name), data, 0o644); err != nil {
			return err
		}
	}
	source := filepath.Join(from, historyFile)
	victim, err := findVictim(source, nth)
	if err != nil {
		return err
	}
	in, err := os.Open(source)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(filepath.Join(to, historyFile))
	if err != nil {
		return err
	}
	defer out.Close()
	w := bufio.NewWriter(out)
	name := fmt.Appendf(nil, `{"id":%q,`, victim.id)
	for r := bufio.NewReader(in); ; {
		line, end := r.ReadBytes('\n')
		if bytes.HasPrefix(line, name) {
			if line, err = victim.edit(line); err != nil {
				return err
			}
		}
		w.Write(line) // its error is Flush's
		if end == io.EOF {
			break
		}
		if end != nil {
			return end
		}
	}
	return errors.Join(w.Flush(), out.Close())
}

// victim is the audit's read of a key as it would be without the last write.
type victim struct {
	id      string // of the read
	ids     []string
	version int64
	digest  string
}

// edit returns the line of the read.
func (v *victim) edit(line []byte) ([]byte, error) {
	var op map[string]any
	if err := json.Unmarshal(line, &op); err != nil {
		return nil, err
	}
	op["version"], op["digest"] = v.version, v.digest
	result, ok := op["result"].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%s: its result is no object", v.id)
	}
	result["ids"] = v.ids
	line, err := json.Marshal(op)
	return append(line, '\n'), err
}

func findVictim(file string, nth int) (*victim, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	type reply struct {
		version int64
		digest  string
		load    bool
	}
	replies := map[string]reply{} // ok ones, by id
	var victims []*victim
	_, _, err = history.ReadOps(f, file, func(op *history.Op) error {
		if op.Outcome != history.OK {
			return nil
		}
		replies[op.ID] = reply{op.Version, op.Digest, op.Phase == history.Load}
		if op.Phase != history.Audit || op.Name != "witness" {
			return nil
		}
		var state struct {
			IDs []string `json:"ids"`
		}
		if err := json.Unmarshal(op.Result, &state); err != nil {
			return fmt.Errorf("%s: %s: %w", file, op.ID, err)
		}
		n := len(state.IDs)
		if n < 2 {
			return nil
		}
		last, before := replies[state.IDs[n-1]], replies[state.IDs[n-2]]
		if !last.load || last.version != int64(n) || before.version != int64(n-1) || before.digest == "" {
			return nil
		}
		victims = append(victims, &victim{op.ID, state.IDs[:n-1], before.version, before.digest})
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(victims) == 0 {
		return nil, fmt.Errorf("%s: no key whose last write was acknowledged in the load", file)
	}
	return victims[nth%len(victims)], nil
}
