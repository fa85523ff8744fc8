package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"statequake/reports/jepsen"
)

// jepsenFlags are the flags of check that only a history of Jepsen has.
type jepsenFlags struct {
	model, html, memory string
	keys, negative      bool
	total               int64
	timeout             time.Duration
}

func (j *jepsenFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&j.model, "model", "", "with --format jepsen: "+strings.Join(jepsen.Models, ", "))
	f.BoolVar(&j.keys, "keys", false, "with --format jepsen: values are tuples [key value]; found out by itself where it is certain")
	f.StringVar(&j.html, "html", "", "with --format jepsen: file for a drawing of the counterexample")
	f.Int64Var(&j.total, "total", 0, "with --model bank: sum of all balances (default that of the first read)")
	f.BoolVar(&j.negative, "negative-balances", false, "with --model bank: balances may be below 0")
	f.DurationVar(&j.timeout, "timeout", time.Minute, "with --format jepsen: time for all searches together")
	f.StringVar(&j.memory, "memory", "1GiB", "with --format jepsen: memory for one search, about")
}

// jepsenOnly are the names of these flags.
var jepsenOnly = []string{"model", "keys", "html", "total", "negative-balances", "timeout", "memory"}

// checkJepsen judges a history of Jepsen and tells the verdict.
func checkJepsen(path string, j *jepsenFlags, totalGiven, asJSON bool) error {
	opt := jepsen.Options{Model: j.model, Keys: j.keys, Negative: j.negative, Timeout: j.timeout}
	if totalGiven {
		opt.Total = &j.total
	}
	var err error
	if opt.Memory, err = units.RAMInBytes(j.memory); err != nil || opt.Memory <= 0 {
		return fmt.Errorf("--memory: %q is no size\nhint: 512MiB or 4GiB, say", j.memory)
	}
	if j.timeout <= 0 {
		return errors.New("--timeout: must be more than 0")
	}
	if err := opt.Valid(); err != nil {
		return fmt.Errorf("--model: %w", err)
	}
	file, name := os.Stdin, "stdin"
	if path != "-" {
		if file, err = os.Open(path); err != nil {
			return err
		}
		defer file.Close()
		name = path
	}
	h, err := jepsen.Read(file, name)
	if err != nil {
		return err
	}
	v, err := jepsen.Judge(h, opt)
	if err != nil {
		return err
	}
	if asJSON {
		data, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			return fmt.Errorf("encode the verdict: %w", err)
		}
		fmt.Printf("%s\n", data)
	} else if err := jepsen.Summary(os.Stdout, v); err != nil {
		return fmt.Errorf("print the verdict: %w", err)
	}
	if j.html != "" {
		if err := draw(v, j.html); err != nil {
			return err
		}
	}
	if code := v.ExitCode(); code != exitPass {
		return exit(code)
	}
	return nil
}

// draw writes the counterexample, if there is one that can be drawn.
func draw(v *jepsen.Verdict, path string) error {
	if !v.Drawable() {
		fmt.Fprintln(os.Stderr, "statequake: --html: nothing to draw: a drawing shows a violation of a register, or one that a search has found, among at most 1000 operations")
		return nil
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(v.Draw(file), file.Close())
}
