package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"
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
			if _, err := judge(args[0]); err != nil {
				return err
			}
			fmt.Println(filepath.Join(args[0], "report.html"))
			return nil
		},
	}
}
