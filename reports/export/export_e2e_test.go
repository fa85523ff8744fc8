//go:build e2e

package export

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"statequake/history"
)

// vegetaOutput runs the pinned vegeta and returns its stdout.
func vegetaOutput(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("go", append([]string{"tool", "-modfile=tools/go.mod", "vegeta"}, args...)...)
	cmd.Dir = filepath.Join("..", "..")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("vegeta %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	return out
}

// plotted returns the points of a plot by the name of their series: x in
// seconds, y in milliseconds. The page holds one row per point, [x, y of each
// series or null].
func plotted(t *testing.T, page []byte) map[string][][2]float64 {
	t.Helper()
	// value decodes the JSON value behind a declaration.
	value := func(declaration string, into any) {
		t.Helper()
		_, rest, found := bytes.Cut(page, []byte(declaration))
		if !found {
			t.Fatalf("the plot does not hold %q", declaration)
		}
		if err := json.NewDecoder(bytes.NewReader(rest)).Decode(into); err != nil {
			t.Fatalf("the plot's %q: %v", declaration, err)
		}
	}
	var rows [][]*float64
	value("const rowData = ", &rows)
	var opts struct {
		Labels []string `json:"labels"`
	}
	value("const opts = ", &opts)
	points := map[string][][2]float64{}
	for _, row := range rows {
		if len(row) != len(opts.Labels) {
			t.Fatalf("a row of %d for %d series", len(row), len(opts.Labels))
		}
		for i, y := range row[1:] {
			if y != nil {
				points[opts.Labels[i+1]] = append(points[opts.Labels[i+1]], [2]float64{*row[0], *y})
			}
		}
	}
	return points
}

// The real program counts and draws every operation.
func TestVegetaReadsIt(t *testing.T) {
	const n = 6000
	run := record(t, synthetic(n), false)
	for _, chosen := range [][]history.Phase{{history.Load}, {history.Load, history.Probe}} {
		for _, format := range formats {
			t.Run(string(format)+" "+list(chosen), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "results")
				if err := os.WriteFile(path, encoded(t, run, format, chosen...), 0o644); err != nil {
					t.Fatal(err)
				}
				want := map[string][][2]float64{}
				began := map[string]time.Time{}
				ok := 0
				for _, r := range decoded(t, decoders[format](bytes.NewReader(encoded(t, run, format, chosen...)))) {
					label := r.Attack + ": OK"
					if r.Error != "" {
						label = r.Attack + ": ERROR"
					} else {
						ok++
					}
					if r.Seq == 0 {
						began[r.Attack] = r.Timestamp
					}
					x := r.Timestamp.Sub(began[r.Attack]).Truncate(time.Millisecond)
					want[label] = append(want[label], [2]float64{x.Seconds(), r.Latency.Seconds() * 1000})
				}

				var report struct {
					Requests int            `json:"requests"`
					Codes    map[string]int `json:"status_codes"`
					Errors   []string       `json:"errors"`
				}
				if err := json.Unmarshal(vegetaOutput(t, "report", "-type=json", path), &report); err != nil {
					t.Fatal(err)
				}
				total := n * len(chosen)
				if report.Requests != total || report.Codes["200"] != ok || report.Codes["0"] != total-ok {
					t.Errorf("the report has %d requests, codes %v; want %d, of them %d ok", report.Requests, report.Codes, total, ok)
				}
				slices.Sort(report.Errors)
				if have := strings.Join(report.Errors, ", "); have != "fail: connection refused, info: timeout, unsent: no free connection" {
					t.Errorf("the report has the errors %s", have)
				}

				points := plotted(t, vegetaOutput(t, "plot", "--threshold=0", path))
				if len(points) != len(want) {
					t.Errorf("the plot has %d series, want %d", len(points), len(want))
				}
				for label := range want {
					// Points of one millisecond are in no order.
					slices.SortFunc(want[label], compare)
					slices.SortFunc(points[label], compare)
					if !slices.Equal(points[label], want[label]) {
						t.Errorf("series %q: the plot's %d points are not the %d recorded", label, len(points[label]), len(want[label]))
					}
				}
			})
		}
	}
}

func compare(a, b [2]float64) int { return slices.Compare(a[:], b[:]) }
