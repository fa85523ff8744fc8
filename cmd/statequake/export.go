package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"statequake/history"
	"statequake/reports/export"
)

func exportCmd() *cobra.Command {
	var (
		formatName, out, entity string
		phaseNames              []string
	)
	cmd := &cobra.Command{
		Use:   "export RUN --format FORMAT",
		Short: "Write a recorded run as CSV or an HdrHistogram log, or for vegeta, Jepsen or Prometheus",
		Long: `Write the operations of a run directory for other tools. A run that was cut short
is exported as far as it goes. docs/load.md has the details.

With --format csv, one line per operation with all its fields, below a line of
their names. With --format hdr, a log of HdrHistogram: for every second and every
operation's name a histogram of latencies. Both are written while the history is
read, so that a run of any size takes little memory.

With --format vegeta-json, vegeta-gob or vegeta-csv, results that vegeta report
and vegeta plot (12.13) read. Every operation is one, whatever its outcome:

  attack     name of the operation; with several phases "PHASE NAME". vegeta plot
             counts time from an attack's first result
  timestamp  when it was due; the run starts at 1970-01-01T00:00:00Z
  latency    from when it was due until it returned, or until the client gave up;
             0 if it was never sent, which lowers vegeta's percentiles
  code       200 if ok, which vegeta counts as success; otherwise 0
  error      if not ok: the outcome (fail, info or unsent) and why

With --format jepsen, write the operations of all phases on one type of entity as
a history of Jepsen, in EDN: values are tuples [key value], a register has :read
and :write, a counter :read and :add, others their own operations.

With --format prometheus, write no operations but the final figures, as Prometheus
text for a textfile collector or a Pushgateway: verdict, latency, throughput,
recovery. docs/live.md lists them.`,
		Example: `  statequake export runs/20260101-120000-quickstart --format vegeta-json | vegeta report
  statequake export runs/20260101-120000-quickstart --format vegeta-gob -o run.gob
  vegeta plot --threshold=0 run.gob > run.html
  statequake export runs/20260101-120000-quickstart --format hdr -o run.hlog
  statequake export runs/20260101-120000-quickstart --format csv --phase all -o run.csv
  statequake export runs/20260101-120000-registers --format jepsen -o history.edn
  statequake export runs/20260101-120000-quickstart --format prometheus -o quickstart.prom`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if formatName == "jepsen" {
				if cmd.Flags().Changed("phase") {
					return errors.New("--phase: not with --format jepsen: without the operations of other phases a history looks wrong")
				}
				return exportJepsen(args[0], entity, out)
			}
			if formatName == "prometheus" {
				if entity != "" || cmd.Flags().Changed("phase") {
					return errors.New("--format prometheus: takes neither --entity nor --phase: its figures are those of verdict.json")
				}
				return exportFigures(args[0], out)
			}
			if entity != "" {
				return errors.New("--entity: only with --format jepsen")
			}
			format, err := export.ParseFormat(formatName)
			if err != nil {
				return fmt.Errorf("--format: %w, jepsen, prometheus", err)
			}
			phases, err := export.ParsePhases(phaseNames)
			if err != nil {
				return fmt.Errorf("--phase: %w", err)
			}
			if out == "" && format == export.VegetaGob && term.IsTerminal(int(os.Stdout.Fd())) {
				return errors.New("--format: vegeta-gob is binary, and stdout is a terminal\nhint: name a file with -o, or use vegeta-json")
			}
			if format.Streamed() {
				return exportStream(args[0], format, phases, out)
			}
			run, err := history.LoadRun(args[0])
			if err != nil {
				return err
			}
			results, err := export.Results(run, phases)
			if err != nil {
				return err
			}
			if run.Footer == nil {
				fmt.Fprintf(os.Stderr, "statequake: %s: the history is torn; operations may be missing at its end\n", args[0])
			}
			if out == "" {
				return export.Write(os.Stdout, format, results)
			}
			file, err := os.Create(out)
			if err != nil {
				return err
			}
			return errors.Join(export.Write(file, format, results), file.Close())
		},
	}
	f := cmd.Flags()
	f.StringVar(&formatName, "format", "", "hdr, csv, vegeta-json, vegeta-gob, vegeta-csv, jepsen or prometheus")
	f.StringVar(&entity, "entity", "", "with --format jepsen: type of entity; needed if the run has several")
	f.StringArrayVar(&phaseNames, "phase", []string{string(history.Load)}, "warmup, load, probe, drain, audit or all; may be given several times")
	f.StringVarP(&out, "out", "o", "", "file to write instead of stdout")
	return cmd
}
