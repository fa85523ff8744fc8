package main

import (
	"bytes"
	"fmt"
	"os"

	"statequake/reports"
	"statequake/reports/prom"
)

// exportFigures writes the final figures of a run as Prometheus text: to stdout if
// out is empty, else as a whole, since a textfile collector may read it at any time.
func exportFigures(dir, out string) error {
	v, err := reports.Read(dir)
	if err != nil {
		return fmt.Errorf("%w\nhint: statequake check %s judges the run and writes it", err, dir)
	}
	var text bytes.Buffer
	if err := prom.Write(&text, v); err != nil {
		return err
	}
	if out == "" {
		_, err := os.Stdout.Write(text.Bytes())
		return err
	}
	return reports.Replace(out, text.Bytes())
}
