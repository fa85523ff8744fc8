package main

import (
	"errors"

	"github.com/spf13/cobra"
)

func chaosCmd() *cobra.Command {
	var o handOptions
	cmd := &cobra.Command{
		Use:   "chaos FILE",
		Short: "Inject the faults of a file by hand",
		Long: `Inject the faults of a file into a cluster that runs, one after the other, and
print what was seen of them. Ctrl-C heals; a second Ctrl-C does not wait for it.

FILE is a scenario, of which only the faults count, and not their triggers, or a
fault object alone (kind and spec). --cluster is the directory of a cluster that
"statequake cluster up" started, or of a run in progress, whose record and verdict
then tell of the fault, too; or it is the address of a node of the reference
runtime that runs by itself on this machine.

Exit code 0: each fault is confirmed and over. 2: one is not.`,
		Example: `  statequake cluster up --dir /tmp/sq &
  statequake chaos pause.yaml --cluster /tmp/sq
  statequake chaos quickstart --fault kill-owner --cluster runs/today
  statequake chaos pause.yaml --cluster http://127.0.0.1:7001`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.cluster == "" {
				return errors.New("--cluster: is missing\nhint: the directory of statequake cluster up or of a run in progress, or the address of a node")
			}
			o.file = args[0]
			return chaosByHand(cmd.Context(), cmd.OutOrStdout(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.cluster, "cluster", "", "directory of a cluster or of a run in progress, or address of a node")
	f.StringVar(&o.fault, "fault", "", "only the fault of this name")
	return cmd
}
