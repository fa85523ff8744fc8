package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"statequake/reports/jepsen"
)

func checkCmd() *cobra.Command {
	var (
		asJSON bool
		format string
		flags  jepsenFlags
	)
	cmd := &cobra.Command{
		Use:   "check RUN | check --format jepsen --model MODEL FILE",
		Short: "Judge a run directory again, or a history of Jepsen",
		Long: `Judge a run from its directory alone, and write verdict.json, report.html,
report.md, junit.xml, results.bench, plots and violations anew. A run that was
cut short is judged as far as it goes.

Each of the first violations gets a folder in violations: a run directory with
the few operations that show it, which is judged the same.

With --format jepsen, judge a history that Jepsen has recorded, and write
nothing: history.edn, or the operation lines of jepsen.log between others; - is
stdin. The models are ` + strings.Join(jepsen.Models, ", ") + `.`,
		Example: `  statequake check runs/20260101-120000-quickstart
  statequake check runs/20260101-120000-quickstart --json | jq .verdict
  statequake check runs/20260101-120000-quickstart/violations/lost-1
  statequake check --format jepsen --model cas-register store/latest/history.edn`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch format {
			case "run":
				for _, name := range jepsenOnly {
					if cmd.Flags().Changed(name) {
						return fmt.Errorf("--%s: only with --format jepsen", name)
					}
				}
			case "jepsen":
				return checkJepsen(args[0], &flags, cmd.Flags().Changed("total"), asJSON)
			default:
				return fmt.Errorf("--format: unknown format %q; have run, jepsen", format)
			}
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
	cmd.Flags().StringVar(&format, "format", "run", "run, a run directory, or jepsen, a history of Jepsen")
	flags.register(cmd)
	return cmd
}
