package main

import (
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"statequake/scenarios"
)

func scenariosCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "scenarios [NAME]",
		Short: "List the bundled scenarios and suites, or print a scenario",
		Example: `  statequake scenarios
  statequake scenarios quickstart > my.yaml`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				text, err := scenarios.Source(args[0])
				if err != nil {
					return err
				}
				_, err = os.Stdout.Write(text)
				return err
			}
			w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
			for _, info := range scenarios.Bundled() {
				fmt.Fprintf(w, "%s\t%s\n", info.Name, info.Scenario.Claim)
			}
			if err := w.Flush(); err != nil {
				return err
			}
			fmt.Println("\nSuites")
			for _, info := range scenarios.Suites() {
				claim := info.Suite.Claim
				if claim == "" {
					claim = info.Suite.Members[0].Scenario.Claim
				}
				fmt.Fprintf(w, "%s\t%s\t%s\n", info.Name, plural(len(info.Suite.Members), "scenario"), claim)
			}
			return w.Flush()
		},
	}
}

func systemsCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "systems",
		Short:   "List the systems that can be tested",
		Example: "  statequake systems",
		Args:    cobra.NoArgs,
		Run: func(*cobra.Command, []string) {
			fmt.Printf("reference  the bundled runtime: entities in memory, journal in embedded etcd (planted bugs: %s)\n", plantedNames())
			fmt.Println("any other  your own, described in the scenario: system.exec starts it, system.url is where it runs (docs/own-system.md)")
		},
	}
}
