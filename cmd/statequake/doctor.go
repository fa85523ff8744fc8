package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"statequake/scenarios"
	"statequake/scenarios/doctor"
)

func doctorCmd() *cobra.Command {
	var asJSON, clean bool
	cmd := &cobra.Command{
		Use:   "doctor [DIR]",
		Short: "Say what this machine can do and how to enable the rest, or clean up after dead runs",
		Long: `Try out what runs and faults need of this machine, and say how to enable what
is missing. Everything is tried in processes of their own that leave nothing
behind; it takes some seconds.

The exit code is 0 if scenarios run here, even if some kinds of faults do not,
and 3 if none does.

It also says what runs below DIR (runs) left behind that were killed. With
--clean it removes that, and tries out nothing. A run is dead if the lock in its
directory is free; what goes on, and what there is no proof of, is not touched.`,
		Example: `  statequake doctor
  statequake doctor --clean
  statequake doctor --json | jq -r '.capabilities[] | select(.state != "ok") | .name'`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := "runs"
			if len(args) > 0 {
				dir = args[0]
				if _, err := os.Stat(dir); err != nil {
					return fmt.Errorf("doctor: %w", err)
				}
			}
			if clean {
				return cleanUp(os.Stdout, dir)
			}
			ctx, cancel := untilSignal(cmd.Context())
			defer cancel()
			return examine(ctx, os.Stdout, dir, asJSON)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.BoolVar(&clean, "clean", false, "remove what dead runs below DIR left behind")
	cmd.MarkFlagsMutuallyExclusive("json", "clean")
	return cmd
}

// diagnosis is what doctor prints with --json.
type diagnosis struct {
	Statequake   string              `json:"statequake"`
	Machine      machineFacts        `json:"machine"`
	User         int                 `json:"uid"`
	CanRun       bool                `json:"can_run"` // scenarios, if not with all kinds of faults
	Capabilities []doctor.Capability `json:"capabilities"`
	Leftovers    *doctor.Survey      `json:"leftovers"`
}

type machineFacts struct {
	OS     string `json:"os"`
	Arch   string `json:"arch"`
	Kernel string `json:"kernel,omitempty"`
	CPUs   int    `json:"cpus"`
	Memory int64  `json:"memory_bytes,omitempty"`
}

func examine(ctx context.Context, out io.Writer, dir string, asJSON bool) error {
	m := scenarios.ThisMachine()
	d := diagnosis{Statequake: version, Machine: machineFacts{m.OS, m.Arch, m.Kernel, m.CPUs, m.Memory}, User: os.Getuid()}
	if !asJSON {
		fmt.Fprintf(out, "%s/%s, kernel %s, %d CPUs, uid %d\n\n", m.OS, m.Arch, m.Kernel, m.CPUs, os.Getuid())
	}
	err := doctor.Examine(ctx, func(c doctor.Capability) {
		d.Capabilities = append(d.Capabilities, c)
		if !asJSON {
			printCapability(out, c)
		}
	})
	if err != nil {
		return fmt.Errorf("doctor: %w", err)
	}
	if d.Leftovers, err = doctor.Look(dir); err != nil {
		return fmt.Errorf("doctor: %w", err)
	}
	d.CanRun = doctor.CanRun(d.Capabilities)
	if asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(d); err != nil {
			return err
		}
	} else {
		printLeftovers(out, d.Leftovers)
		fmt.Fprintf(out, "\n%s\n", conclusion(d))
	}
	if !d.CanRun {
		return exit(exitError)
	}
	return nil
}

// conclusion is the last line of the table.
func conclusion(d diagnosis) string {
	var required, others []string
	for _, c := range d.Capabilities {
		switch {
		case c.State != doctor.Missing:
		case c.Required:
			required = append(required, c.Name)
		default:
			others = append(others, c.Name)
		}
	}
	switch {
	case required != nil:
		return "No scenario runs here: " + strings.Join(required, ", ") + " missing."
	case others != nil:
		return "The quickstart runs here. Missing: " + strings.Join(others, ", ") + "."
	}
	return "The quickstart runs here, and so does all the rest."
}

// Columns of the table.
const (
	nameWidth  = 20
	stateWidth = 9
	tableWidth = 100
)

func printCapability(out io.Writer, c doctor.Capability) {
	indent := strings.Repeat(" ", nameWidth+stateWidth)
	write := func(head, text string) {
		for i, line := range wrap(text, tableWidth-len(indent)) {
			if i > 0 {
				head = indent
			}
			fmt.Fprintf(out, "%s%s\n", head, line)
		}
	}
	write(fmt.Sprintf("%-*s%-*s", nameWidth, c.Name, stateWidth, c.State), c.Found)
	use := c.For
	if kinds := slices.Concat(c.Kinds, prefixed("the trigger ", c.Triggers)); len(kinds) > 0 {
		use += ": " + strings.Join(kinds, ", ")
	}
	write(indent, "for "+use)
	if c.State == doctor.OK {
		return
	}
	if len(c.Scenarios) > 0 {
		write(indent, "without it: no "+strings.Join(c.Scenarios, ", "))
	}
	for _, way := range c.Enable {
		write(indent, "enable: "+way)
	}
}

func prefixed(prefix string, words []string) []string {
	list := slices.Clone(words)
	for i := range list {
		list[i] = prefix + list[i]
	}
	return list
}

// wrap breaks text into lines of at most width bytes, where there are spaces.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
