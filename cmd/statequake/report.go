package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"statequake/reports/suite"
)

func reportCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "report RUN|SUITE-RUNS",
		Short: "Write the reports of a run directory again, or the summary of a suite",
		Long: `Render a run again from its directory alone: report.html and the other files
that statequake check writes. It prints where the report is and not the verdict,
and succeeds whatever the verdict is.

For the directory of a suite, the summary of its runs is written again.`,
		Example: `  statequake report runs/20260101-120000-quickstart`,
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if suite.IsSuite(args[0]) {
				s, err := suite.Load(args[0])
				if err == nil {
					err = s.Write(args[0])
				}
				if err != nil {
					return err
				}
				fmt.Println(filepath.Join(args[0], "summary.html"))
				return nil
			}
			if _, err := judge(args[0]); err != nil {
				return err
			}
			fmt.Println(filepath.Join(args[0], "report.html"))
			return nil
		},
	}
}
