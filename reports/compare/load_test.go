package compare

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// Both forms of a comparison say how the load generators kept up, of usable runs.
func TestLoadsOfSides(t *testing.T) {
	with := func(s *Side, i int, load string) {
		if err := json.Unmarshal([]byte(load), &s.Runs[i].verdict.Load); err != nil {
			t.Fatal(err)
		}
	}
	one := func(int) figures { return figures{500, 1e6, 2e6, 3e6, 4e8, 1e5} }
	base, head := side("base", 3, one), side("head", 2, one)
	for i, p50 := range []int{90, 80, 85} {
		with(base, i, fmt.Sprintf(`{"requested_rate_per_s": 500, "achieved_rate_per_s": %d, "unsent": 2, "send_lag_ns": {"p50": %d000, "p99": %d0000, "max": 7000000}}`, 499-i, p50, p50))
	}
	with(head, 0, `{"achieved_rate_per_s": 800}`)
	with(head, 1, `{"achieved_rate_per_s": 900}`)
	r := mustCompareAll(t, base, []*Side{head}, Config{})
	var text, markdown bytes.Buffer
	if err := r.Text(&text); err != nil {
		t.Fatal(err)
	}
	if err := r.Markdown(&markdown); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"base: 500/s requested, 498/s achieved, 6 unsent; send lag p50 85.0 µs, p99 at most 900 µs, max 7.00 ms",
		"head: 850/s achieved, 0 unsent\n",
	} {
		if !strings.Contains(text.String(), want) || !strings.Contains(markdown.String(), want) {
			t.Errorf("%q is not in\n%s\n%s", want, text.String(), markdown.String())
		}
	}
}
