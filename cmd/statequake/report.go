package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"statequake/reports"
)

func reportCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "report RUN",
		Short: "Write the reports of a run directory again",
		Long: `Render a run again from its directory alone: report.html and the other files
that statequake check writes. It prints where the report is and not the verdict,
and succeeds whatever the verdict is.`,
		Example: `  statequake report runs/20260101-120000-quickstart`,
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			v, err := reports.Judge(args[0])
			if err != nil {
				return err
			}
			if err := reports.Write(args[0], v); err != nil {
				return err
			}
			fmt.Println(filepath.Join(args[0], "report.html"))
			return nil
		},
	}
}
