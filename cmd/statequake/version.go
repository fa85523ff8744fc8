package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

// version of statequake.
const version = "0.1.0-dev"

func versionCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  statequake version",
		Args:    cobra.NoArgs,
		Run: func(*cobra.Command, []string) {
			fmt.Printf("statequake %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
		},
	}
}
