package reports

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"statequake/reports/stats"
)

// bench is results.bench, in the format of
// https://go.dev/design/14313-benchmark-format, for benchstat and its kin.
//
// benchstat compares only results whose configuration lines agree, so these
// hold what must agree; what differs from run to run is in # comments, which it
// ignores. The iteration count is the number of ok operations, for a fault that
// of the keys.
func bench(v *Verdict) []byte {
	var b bytes.Buffer
	config := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s: %s\n", key, harmless(value))
		}
	}
	config("scenario", v.Scenario)
	config("system", v.System.Name)
	config("nodes", strconv.Itoa(v.System.Nodes))
	config("ack", v.System.Ack)
	config("# bug", v.System.Bug)
	config("# seed", strconv.FormatInt(v.Seed, 10))
	config("# verdict", string(v.Verdict))
	config("# system-version", v.System.Version)
	config("# generator", string(v.Load.Generator))
	b.WriteString("Unit ops/s better=higher\n")

	name := "Benchmark" + camel(v.Scenario)
	var cpu float64
	for _, node := range slices.Sorted(maps.Keys(v.Resources)) { // in order: sums of floats depend on it
		cpu += v.Resources[node].CPU
	}
	line := func(part string, n int64, values ...string) {
		if len(values) > 0 {
			fmt.Fprintf(&b, "%s/%s %d %s\n", name, part, n, strings.Join(values, " "))
		}
	}
	summary := func(s stats.Summary, rate *float64) []string {
		var values []string
		for _, p := range []struct {
			unit string
			d    time.Duration
		}{{"p50-ns", s.P50}, {"p90-ns", s.P90}, {"p99-ns", s.P99}, {"p999-ns", s.P999}, {"max-ns", s.Max}} {
			if s.N > 0 {
				values = append(values, fmt.Sprintf("%d %s", p.d, p.unit))
			}
		}
		if rate != nil {
			values = append(values, number(*rate)+" ops/s")
		}
		return values
	}
	all := summary(v.Latency.All, v.Throughput.All)
	if v.Latency.All.N > 0 && cpu > 0 {
		// Of all nodes, from their start on, per ok operation of the load.
		all = append(all, number(cpu*1e9/float64(v.Latency.All.N))+" cpu-ns/op")
	}
	line("part=all", v.Latency.All.N, all...)
	if f := v.FindMax; f != nil {
		// Only what the system itself limited is a figure of the system.
		if f.OfSystem() != nil {
			b.WriteString("Unit knee-ops/s better=higher\n")
			line("part=find-max", int64(len(f.Levels)), number(*f.Knee)+" knee-ops/s")
		} else {
			config("# find-max", kneeText(f))
		}
	}
	line("part=steady", v.Latency.Steady.N, summary(v.Latency.Steady, v.Throughput.Steady)...)
	line("part=during-faults", v.Latency.DuringFaults.N, summary(v.Latency.DuringFaults, v.Throughput.DuringFaults)...)
	for _, op := range slices.Sorted(maps.Keys(v.Latency.ByOp)) {
		line("op="+subname(op), v.Latency.ByOp[op].N, summary(v.Latency.ByOp[op], nil)...)
	}
	for i := range v.Faults {
		f := &v.Faults[i]
		if f.Recovery == nil {
			continue
		}
		var values []string
		for _, m := range []struct {
			unit string
			d    *time.Duration
		}{
			{"outage-ns", f.Recovery.Outage.P50}, {"outage-max-ns", f.Recovery.Outage.Max},
			{"first-ok-ns", f.Recovery.FirstOK}, {"steady-after-ns", f.Recovery.Steady},
		} {
			if m.d != nil {
				values = append(values, fmt.Sprintf("%d %s", *m.d, m.unit))
			}
		}
		line("fault="+subname(f.Name), max(1, int64(f.Recovery.Outage.N)), values...)
	}
	return b.Bytes()
}

func number(v float64) string { return strconv.FormatFloat(v, 'f', 3, 64) }

// camel makes the part of a benchmark's name that must be one word and must not
// begin in lower case: kill-owner is KillOwner.
func camel(s string) string {
	var b strings.Builder
	up := true
	for _, r := range s {
		switch {
		case !unicode.IsLetter(r) && !unicode.IsDigit(r):
			up = true
			continue
		case up:
			r = unicode.ToUpper(r)
		}
		b.WriteRune(r)
		up = false
	}
	return b.String()
}

// subname makes one word of a name: what would end the word or the part of the
// benchmark's name is an underscore, and so is a dash before a number at the
// end, which is read as GOMAXPROCS.
func subname(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || unicode.IsSpace(r) || r == '/' || r == '=' {
			return '_'
		}
		return r
	}, strings.ToValidUTF8(s, "_"))
	if i := strings.LastIndexByte(s, '-'); i >= 0 {
		if _, err := strconv.Atoi(s[i+1:]); err == nil {
			s = s[:i] + "_" + s[i+1:]
		}
	}
	return s
}
