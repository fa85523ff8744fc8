package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"statequake/reports"
	"statequake/reports/compare"
)

// comparison is what compare and ab share: how sides are compared, shown and
// turned into an exit code.
type comparison struct {
	cfg    compare.Config
	gate   string
	format string
	html   string
	write  func(*compare.Comparison, io.Writer) error // of the format, set by check
}

func compareCmd() *cobra.Command {
	var c comparison
	var paired bool
	cmd := &cobra.Command{
		Use:   "compare BASE HEAD...",
		Short: "Say whether the runs of heads are worse than those of a base",
		Long: `Compare run directories, or folders of run directories, by their verdict.json.
In folders with equally many runs, run i of BASE by name is paired with run i of
a HEAD. Only runs that passed are measured. With several heads there is one
outcome for each, and the worst decides.

A violation in a HEAD decides, whatever the figures. A metric is no worse if its
interval ends within the margin, a regression if the whole interval is worse
and the estimate is not within the margin, else inconclusive.

--html FILE draws all sides on one axis. For that the histories of the runs are
read, too; a run without one is missing in the charts only.

Exit codes: 0; 1 a HEAD violates correctness; 3 usage. With --gate also 4 a
regression, or a limit broken; 5 inconclusive.

A gate file is YAML and says what may get worse by how much. max and min limit
the median of HEAD. The gate "default" needs no file: every metric gates, with
its own margin.

  alpha: 2%             # largest chance to fail equal sides, over all metrics and heads
  inconclusive: warn    # or fail
  others: inform        # metrics not named here; or gate
  metrics:
    p99: {margin: 15%, max: 500ms}
    throughput: {margin: 3%, min: 480/s}
    cpu_per_op: {gate: false}`,
		Example: `  statequake compare runs/base runs/head
  statequake compare runs/base runs/a runs/b --html comparison.html
  statequake compare runs/base runs/head --gate gate.yaml --format markdown`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.check(); err != nil {
				return err
			}
			if cmd.Flags().Changed("paired") {
				c.cfg.Pairing = compare.Unpaired
				if paired {
					c.cfg.Pairing = compare.Paired
				}
			}
			return c.show(args[0], args[1:]...)
		},
	}
	c.flags(cmd)
	cmd.Flags().BoolVar(&paired, "paired", false, "run i of BASE belongs to run i of HEAD (default: if both have equally many runs, more than one)")
	return cmd
}

func (c *comparison) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&c.gate, "gate", "", "gate `FILE`, or default: end with 4 for a regression and 5 if inconclusive")
	f.StringVar(&c.format, "format", "text", "text, markdown or json")
	f.StringVar(&c.html, "html", "", "also write one offline page with all sides on one axis into this `FILE`")
}

// check reads the flags. What is wrong with them is known before any run.
func (c *comparison) check() error {
	write, ok := map[string]func(*compare.Comparison, io.Writer) error{
		"text":     (*compare.Comparison).Text,
		"markdown": (*compare.Comparison).Markdown,
		"json":     writeJSON,
	}[c.format]
	if !ok {
		return fmt.Errorf("--format: unknown format %q; have text, markdown, json", c.format)
	}
	c.write = write
	if c.gate != "" {
		cfg, err := compare.ReadGate(c.gate)
		if err != nil {
			return err
		}
		c.cfg = cfg
	}
	return nil
}

// show compares heads with a base, prints the comparison to standard output and
// turns it into the exit code. A violation in a head that could be read decides,
// whatever else goes wrong.
func (c *comparison) show(basePath string, headPaths ...string) error {
	var problems []error
	load := func(path string) *compare.Side {
		side, err := compare.Load(path)
		problems = append(problems, err)
		return side
	}
	base := load(basePath)
	var heads []*compare.Side
	var violated []string
	for _, path := range headPaths {
		head := load(path)
		heads = append(heads, head)
		if head != nil {
			for _, text := range head.Violated() {
				violated = append(violated, path+": "+text)
			}
		}
	}
	err := errors.Join(problems...)
	var report *compare.Comparison
	if err == nil {
		report, err = compare.Compare(base, heads, c.cfg)
	}
	if err == nil {
		if err = c.write(report, os.Stdout); err != nil {
			err = fmt.Errorf("print the comparison: %w", err)
		}
	}
	if err == nil && c.html != "" {
		err = report.WriteHTML(c.html)
	}
	switch {
	case err != nil && len(violated) > 0:
		fmt.Fprintf(os.Stderr, "statequake: %v\n", err)
		for _, text := range violated {
			fmt.Fprintf(os.Stderr, "violation in head: %s\n", reports.Harmless(text))
		}
		return exit(exitViolation)
	case err != nil:
		return err
	case report.ExitCode != exitPass:
		return exit(report.ExitCode)
	}
	return nil
}

func writeJSON(r *compare.Comparison, w io.Writer) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	_, err = w.Write(append(data, '\n'))
	return err
}
