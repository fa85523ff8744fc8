package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"statequake/reports/compare"
)

func compareCmd() *cobra.Command {
	var (
		cfg     compare.Config
		paired  bool
		gate    bool
		format  string
		budget  string
		margins []string
	)
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
			write, ok := map[string]func(*compare.Report) error{
				"text":     func(r *compare.Report) error { return r.Text(os.Stdout) },
				"markdown": func(r *compare.Report) error { return r.Markdown(os.Stdout) },
				"json":     writeJSON,
			}[format]
			if !ok {
				return fmt.Errorf("--format: unknown format %q; have text, markdown, json", format)
			}
			if cmd.Flags().Changed("paired") {
				cfg.Pairing = compare.Unpaired
				if paired {
					cfg.Pairing = compare.Paired
				}
			}
			var err error
			cfg.Budgets = compare.Budgets{}
			if budget != "" {
				if cfg.Budgets, err = compare.ReadBudgets(budget); err != nil {
					return err
				}
			}
			for _, m := range margins {
				if err := cfg.Budgets.SetMargin(m); err != nil {
					return fmt.Errorf("--%w", err)
				}
			}
			if cfg.Alpha == 0 {
				return errors.New("alpha: 0 is not at least 0.0001")
			}
			base, err := compare.Load(args[0])
			if err != nil {
				return err
			}
			head, err := compare.Load(args[1])
			if err != nil {
				return err
			}
			report, err := compare.Compare(base, head, cfg)
			if err != nil {
				return err
			}
			if err := write(report); err != nil {
				return fmt.Errorf("print the comparison: %w", err)
			}
			if code := report.ExitCode(gate); code != exitPass {
				return exit(code)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVar(&gate, "gate", false, "end with 4 for a regression and 5 if inconclusive")
	f.BoolVar(&paired, "paired", false, "run i of BASE belongs to run i of HEAD (default: if both have equally many runs, more than one)")
	f.StringVar(&format, "format", "text", "text, markdown or json")
	f.StringVar(&budget, "budget", "", "file of margins and limits")
	f.StringArrayVar(&margins, "margin", nil, "by how much a metric may be worse, METRIC=PERCENT; may be given several times")
	f.Float64Var(&cfg.Alpha, "alpha", compare.DefaultAlpha, "largest chance to call equal sides a regression in any metric")
	return cmd
}

func writeJSON(r *compare.Report) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(append(data, '\n'))
	return err
}
