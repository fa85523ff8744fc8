package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"statequake/reports"
	"statequake/reports/groups"
)

// pictures are what the forms of plot share: a picture of groups of runs, written
// into a folder.
type pictures struct{ out string }

func plotCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "plot recovery|frontier|scale [NAME=]DIR...",
		Short: "Draw several groups of runs as one picture, for documents",
		Long: `Draw groups of runs as SVG and PNG, with the points as CSV. A group is a run
directory or a folder of run directories, as compare reads it; its name is that of
the folder unless NAME= says otherwise. The runs of a group are of one scenario, one
system and one contract (system.ack, system.window).

Medians are drawn over the runs of a group, with bars or a band from the least to
the largest value; if every group has ten runs or more, from the 10th to the 90th
percentile. Runs that prove nothing (unknown) are left out, and so are, from
recovery and scale, those that broke their contract; the picture and the terminal
say so. A group of which none is left is an error. docs/plots.md has the details.`,
		Example: `  statequake plot recovery base=runs/base head=runs/head -o plots
  statequake plot frontier durable=runs/durable memory=runs/memory --latency p99 -o plots
  statequake plot scale runs/nodes-1 runs/nodes-3 runs/nodes-5 --by system.nodes -o plots`,
		Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return fmt.Errorf("plot: no picture named; have recovery, frontier, scale")
			}
			return fmt.Errorf("plot: unknown picture %q; have recovery, frontier, scale", args[0])
		},
	}
	var p pictures
	cmd.PersistentFlags().StringVarP(&p.out, "out", "o", "", "folder for the files, made if it is not there (required)")
	cmd.AddCommand(p.recovery(), p.frontier(), p.scale())
	return cmd
}

func (p *pictures) recovery() *cobra.Command {
	var r groups.Recovery
	cmd := p.command("recovery", "Goodput around a fault, with the runs aligned at its injection")
	cmd.RunE = func(_ *cobra.Command, args []string) error { return p.draw(args, r.Draw) }
	f := cmd.Flags()
	f.StringVar(&r.Fault, "fault", "", "name of the fault (default: the first one that was injected)")
	f.DurationVar(&r.Before, "before", 5*time.Second, "time to show before the injection, at most as long as every run has it")
	f.DurationVar(&r.After, "after", 15*time.Second, "time to show after the injection, likewise")
	return cmd
}

func (p *pictures) frontier() *cobra.Command {
	var r groups.Frontier
	cmd := p.command("frontier", "Acknowledged writes lost against latency")
	cmd.RunE = func(_ *cobra.Command, args []string) error { return p.draw(args, r.Draw) }
	f := cmd.Flags()
	f.StringVar(&r.Latency, "latency", "p50", "p50 or p99, of the operations that no fault disturbed")
	f.StringVar(&r.Loss, "loss", "writes", "writes lost in a run, share of ok answers, or rpo: age of the oldest lost write at the fault")
	return cmd
}

func (p *pictures) scale() *cobra.Command {
	var r groups.Scale
	var ideal bool
	cmd := p.command("scale", "A figure against a number of the scenario")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if cmd.Flags().Changed("ideal") {
			r.Ideal = &ideal
		}
		return p.draw(args, r.Draw)
	}
	f := cmd.Flags()
	f.StringVar(&r.By, "by", "system.nodes", "path of a field of the resolved scenario: a number, a rate, a share or a duration")
	f.StringVar(&r.Figure, "figure", "throughput", "throughput, p50, p99 or knee")
	f.BoolVar(&ideal, "ideal", false, "draw the line in proportion to the first point (default: with throughput and knee by nodes or clients)")
	return cmd
}

// command is one form of plot.
func (p *pictures) command(name, short string) *cobra.Command {
	return &cobra.Command{
		Use:   name + " [NAME=]DIR...",
		Short: short,
		Args:  cobra.MinimumNArgs(1),
	}
}

// draw draws the groups and writes the files.
func (p *pictures) draw(args []string, draw func([]*groups.Group) (*groups.Picture, error)) error {
	if p.out == "" {
		return fmt.Errorf("-o: names no folder for the files")
	}
	loaded, err := groups.Load(args)
	if err != nil {
		return err
	}
	picture, err := draw(loaded)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(p.out, 0o755); err != nil {
		return err
	}
	for _, f := range picture.Files {
		path := filepath.Join(p.out, f.Name)
		if err := reports.Replace(path, f.Data); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
		fmt.Println(path)
	}
	for _, line := range picture.Lines {
		fmt.Println(line)
	}
	for _, note := range picture.Notes {
		fmt.Fprintf(os.Stderr, "statequake: %s\n", note)
	}
	return nil
}
