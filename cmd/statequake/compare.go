package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"statequake/reports/compare"
)

// comparison is what compare and ab share: how two sides are compared, shown and
// turned into an exit code.
type comparison struct {
	cfg     compare.Config
	gate    bool
	format  string
	budget  string
	margins []string
	write   func(*compare.Report) error // of the format, set by check
}

func compareCmd() *cobra.Command {
	var c comparison
	var paired bool
	cmd := &cobra.Command{
		Use:   "compare BASE HEAD",
		Short: "Say whether the runs of a head are worse than those of a base",
		Long: `Compare run directories, or folders of run directories, by their verdict.json.
In folders with equally many runs, run i of BASE by name is paired with run i of
HEAD. Only runs that passed are measured.

A violation in HEAD decides, whatever the figures. A metric is no worse if its
interval ends within the margin, a regression if the whole interval is worse
and the estimate is not within the margin, else inconclusive.

Exit codes: 0; 1 HEAD violates correctness; 3 usage. With --gate also 4 a
regression, or a limit broken; 5 inconclusive.

A budget file is YAML. max and min limit the median of HEAD:

  p99: {margin: 15%, max: 500ms}
  throughput: {margin: 3%, min: 480/s}
  lost_acks: {max: 0}`,
		Example: `  statequake compare runs/base runs/head
  statequake compare runs/base runs/head --gate --budget budget.yaml --format markdown`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("paired") {
				c.cfg.Pairing = compare.Unpaired
				if paired {
					c.cfg.Pairing = compare.Paired
				}
			}
			if err := c.check(); err != nil {
				return err
			}
			return c.show(args[0], args[1])
		},
	}
	c.flags(cmd)
	cmd.Flags().BoolVar(&paired, "paired", false, "run i of BASE belongs to run i of HEAD (default: if both have equally many runs, more than one)")
	return cmd
}

func (c *comparison) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&c.gate, "gate", false, "end with 4 for a regression and 5 if inconclusive")
	f.StringVar(&c.format, "format", "text", "text, markdown or json")
	f.StringVar(&c.budget, "budget", "", "file of margins and limits")
	f.StringArrayVar(&c.margins, "margin", nil, "by how much a metric may be worse, METRIC=PERCENT; may be given several times")
	f.Float64Var(&c.cfg.Alpha, "alpha", compare.DefaultAlpha, "largest chance to call equal sides a regression in any metric")
}

// check reads the flags. What is wrong with them is known before any run.
func (c *comparison) check() error {
	write, ok := map[string]func(*compare.Report) error{
		"text":     func(r *compare.Report) error { return r.Text(os.Stdout) },
		"markdown": func(r *compare.Report) error { return r.Markdown(os.Stdout) },
		"json":     writeJSON,
	}[c.format]
	if !ok {
		return fmt.Errorf("--format: unknown format %q; have text, markdown, json", c.format)
	}
	c.write = write
	c.cfg.Budgets = compare.Budgets{}
	if c.budget != "" {
		var err error
		if c.cfg.Budgets, err = compare.ReadBudgets(c.budget); err != nil {
			return err
		}
	}
	for _, m := range c.margins {
		if err := c.cfg.Budgets.SetMargin(m); err != nil {
			return fmt.Errorf("--%w", err)
		}
	}
	if !(c.cfg.Alpha >= 0.0001 && c.cfg.Alpha < 0.5) {
		return fmt.Errorf("--alpha: %v is not at least 0.0001 and less than 0.5", c.cfg.Alpha)
	}
	return nil
}

// show compares two paths, prints the comparison to standard output and turns
// it into the exit code.
func (c *comparison) show(basePath, headPath string) error {
	base, err := compare.Load(basePath)
	if err != nil {
		return err
	}
	head, err := compare.Load(headPath)
	if err != nil {
		return err
	}
	report, err := compare.Compare(base, head, c.cfg)
	if err != nil {
		return err
	}
	if err := c.write(report); err != nil {
		return fmt.Errorf("print the comparison: %w", err)
	}
	if code := report.ExitCode(c.gate); code != exitPass {
		return exit(code)
	}
	return nil
}

func writeJSON(r *compare.Report) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(append(data, '\n'))
	return err
}
