package suite

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"statequake/reports"
)

// planFile is what makes a directory that of a suite.
const planFile = "plan.json"

// version is that of plan.json and suite.json.
const version = 1

// Plan is what is to be run, as plan.json holds it.
type Plan struct {
	Version    int      `json:"version"`
	Suite      string   `json:"suite"`
	Claim      string   `json:"claim"`      // may be empty
	Statequake string   `json:"statequake"` // version that planned it
	Command    []string `json:"command"`    // that runs it, or goes on with it, from the folder in which it was given
	Runs       int      `json:"runs"`       // of each scenario

	Scenarios []Planned `json:"scenarios"` // in the order in which they are run
}

// Planned is one scenario of a suite.
type Planned struct {
	Name   string `json:"name"` // of the scenario; its folder has the same
	Source string `json:"source"`
	Claim  string `json:"claim"`
	Seed   int64  `json:"seed"` // of the first run; each takes the next one

	// CannotRun says what it needs that the machine does not have. It is not run
	// then, and Skipped says that this was accepted beforehand.
	CannotRun string `json:"cannot_run,omitempty"`
	Skipped   bool   `json:"skipped,omitempty"`
}

// IsSuite reports whether dir is the directory of a suite.
func IsSuite(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, planFile))
	return err == nil
}

// ReadPlan reads the plan of the suite in dir. The error is fs.ErrNotExist if
// dir is not the directory of a suite.
func ReadPlan(dir string) (*Plan, error) {
	path := filepath.Join(dir, planFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var p Plan
	if err := json.Unmarshal(data, &p); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if p.Version != version {
		return nil, fmt.Errorf("%s: version %d, this program reads %d", path, p.Version, version)
	}
	if p.Runs < 1 {
		return nil, fmt.Errorf("%s: runs: %d, must be at least 1", path, p.Runs)
	}
	for i, s := range p.Scenarios {
		if s.Name == "" || !filepath.IsLocal(s.Name) || filepath.Base(s.Name) != s.Name {
			return nil, fmt.Errorf("%s: scenarios[%d].name: %q is not the name of a folder", path, i, s.Name)
		}
	}
	return &p, nil
}

// Write puts the plan into dir.
func (p *Plan) Write(dir string) error {
	p.Version = version
	data, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", planFile, err)
	}
	if err := reports.Replace(filepath.Join(dir, planFile), append(data, '\n')); err != nil {
		return fmt.Errorf("write %s: %w", planFile, err)
	}
	return nil
}

// Dir is the directory of a run, counted from 1, seen from that of the suite:
// NAME, or NAME/0001 and so on if each scenario is run several times.
func (p *Plan) Dir(s *Planned, run int) string {
	if p.Runs == 1 {
		return s.Name
	}
	return filepath.Join(s.Name, fmt.Sprintf("%04d", run))
}

// Log is the file with what a run printed, seen from the directory of the suite.
func (p *Plan) Log(s *Planned, run int) string { return p.Dir(s, run) + ".log" }

// ScenarioFile is the file with the scenario as it is run, seen from the
// directory of the suite.
func ScenarioFile(name string) string { return name + ".yaml" }

// missing reports whether err says that a file is not there.
func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
