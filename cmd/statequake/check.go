package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

func checkCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check RUN",
		Short: "Judge a run directory again",
		Long: `Judge a run from its directory alone, and write verdict.json, report.html,
report.md, junit.xml, results.bench, plots and violations anew. A run that was
cut short is judged as far as it goes.

Each of the first violations gets a folder in violations: a run directory with
the few operations that show it, which is judged the same.`,
		Example: `  statequake check runs/20260101-120000-quickstart
  statequake check runs/20260101-120000-quickstart --json | jq .verdict
  statequake check runs/20260101-120000-quickstart/violations/lost-1`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			v, err := judge(args[0])
			if err != nil {
				return err
			}
			if !asJSON {
				return tell(v, args[0])
			}
			data, err := json.MarshalIndent(v, "", "  ")
			if err != nil {
				return fmt.Errorf("encode the verdict: %w", err)
			}
			fmt.Fprintf(os.Stdout, "%s\n", data)
			if code := v.ExitCode(); code != exitPass {
				return exit(code)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the verdict as JSON")
	return cmd
}
