package reports

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"statequake/reports/plot"
)

// Write writes verdict.json, report.html, report.md, junit.xml, results.bench
// and the folders plots and violations into the run directory, and
// porcupine-1.html and so on for what Porcupine found. v comes from Judge. Each
// file is replaced as a whole or not at all; verdict.json comes last, so its
// presence says that the others are there.
func Write(dir string, v *Verdict) error {
	verdict, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encode verdict.json: %w", err)
	}
	tests, err := junit(v)
	if err != nil {
		return err
	}
	// Both take long of a long run, and neither all CPUs all the time.
	var (
		page, files      = []byte(nil), []plot.File(nil)
		pageErr, plotErr error
		both             sync.WaitGroup
	)
	both.Go(func() { page, pageErr = renderHTML(v) })
	both.Go(func() { files, plotErr = v.plots() })
	both.Wait()
	if err := cmp.Or(pageErr, plotErr); err != nil {
		return err
	}
	if err := v.writeExcerpts(dir); err != nil {
		return fmt.Errorf("write %s: %w", excerptsDir, err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "plots"), 0o755); err != nil {
		return fmt.Errorf("write plots: %w", err)
	}
	files = append(files, v.searches()...)
	if err := removeSearches(dir, files); err != nil {
		return fmt.Errorf("remove pages of an earlier verdict: %w", err)
	}
	files = append(files,
		plot.File{Name: "report.html", Data: page},
		plot.File{Name: "report.md", Data: markdown(v)},
		plot.File{Name: "junit.xml", Data: tests},
		plot.File{Name: "results.bench", Data: bench(v)},
		plot.File{Name: "verdict.json", Data: append(verdict, '\n')})
	for _, f := range files {
		if err := replace(filepath.Join(dir, f.Name), f.Data); err != nil {
			return fmt.Errorf("write %s: %w", f.Name, err)
		}
	}
	return nil
}

// plots draws the static pictures, named as in the run directory.
func (v *Verdict) plots() ([]plot.File, error) {
	in := plot.Input{Title: v.Scenario, Load: v.loadWindow()}
	for i := range v.Faults {
		f := &v.Faults[i]
		if f.Requested == nil {
			continue
		}
		band := plot.Fault{Name: f.Name, From: *f.Requested}
		if f.Recovered != nil {
			band.To = *f.Recovered
		}
		in.Faults = append(in.Faults, band)
		if f.Recovery != nil {
			in.Disturbed = append(in.Disturbed, f.Recovery.Window)
		}
	}
	files, err := plot.Render(&v.run.Ops, in)
	if err == nil && v.FindMax != nil {
		var knee []plot.File
		knee, err = plot.Knee(v.Scenario, upperFirst(kneeText(v.FindMax))+".", v.FindMax)
		files = append(files, knee...)
	}
	for i := range files {
		files[i].Name = filepath.Join("plots", files[i].Name)
	}
	return files, err
}

// replace puts a file with the data at path, whatever was there.
func replace(path string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
