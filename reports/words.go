package reports

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"statequake/history"
	"statequake/reports/check"
	"statequake/reports/stats"
)

// duration writes d with three digits and a unit: 850 ns, 4.21 ms, 0.93 s,
// 125 s.
func duration(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + duration(-d)
	case d == 0:
		return "0 s"
	case d < time.Microsecond:
		return fmt.Sprintf("%d ns", d)
	case d < time.Millisecond:
		return significant(float64(d)/1e3) + " µs"
	case d < 500*time.Millisecond:
		return significant(float64(d)/1e6) + " ms"
	}
	return significant(d.Seconds()) + " s"
}

// significant writes v with three digits, or more before the point.
func significant(v float64) string {
	switch {
	case v < 9.995:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case v < 99.95:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

// maybe is duration of d, or "unknown".
func maybe(d *time.Duration) string {
	if d == nil {
		return "unknown"
	}
	return duration(*d)
}

// instant writes a point of the run clock.
func instant(d time.Duration) string { return fmt.Sprintf("%.3f s", d.Seconds()) }

// count writes n with separators: 9,812.
func count(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// plural writes n things.
func plural(n int64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return count(n) + " " + thing + "s"
}

func rate(v float64) string { return shortest(v, 1) + "/s" }

func percent(share float64) string { return strconv.FormatFloat(100*share, 'f', 2, 64) + " %" }

// bytesOf writes a number of bytes.
func bytesOf(n int64) string {
	v, units := float64(n), []string{"B", "KiB", "MiB", "GiB", "TiB"}
	for v >= 1024 && len(units) > 1 {
		v, units = v/1024, units[1:]
	}
	return shortest(v, 1) + " " + units[0]
}

// harmless makes text of unknown origin safe to show on one line: control
// characters, invalid UTF-8, and characters that reorder or hide text are
// written as Go escapes.
func harmless(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		i += n
	}
	return b.String()
}

// headline is the verdict in words, without the verdict itself.
func (v *Verdict) headline() string {
	switch v.Verdict {
	case check.Violated:
		var found []string
		for _, r := range v.Checks {
			if r.Verdict == check.Violated {
				found = append(found, fmt.Sprintf("%s (%s check)", kinds(r), r.Name))
			}
		}
		lost := ""
		if v.LostAcks != nil && *v.LostAcks > 0 {
			lost = plural(int64(*v.LostAcks), "acknowledged write") + " lost; "
		}
		return "the system broke its contract: " + lost + strings.Join(found, "; ")
	case check.Pass:
		return v.kept() + v.butMissed()
	}
	if len(v.Reasons) == 0 {
		return "the run proves nothing"
	}
	return "the run proves nothing: " + lowerFirst(strings.TrimSuffix(v.Reasons[0], "."))
}

// kept says what a passed run shows about acknowledged writes, and what that
// rests on: the witness, or without one every check of the answers.
func (v *Verdict) kept() string {
	var by []string
	for _, r := range v.Checks {
		if r.Name == "witness" {
			by = []string{fmt.Sprintf("%s audited on %s", plural(int64(r.Ops), "ok answer"), plural(int64(r.Keys), "key"))}
			break
		}
		if r.Name != "identity" && r.Keys > 0 {
			by = append(by, fmt.Sprintf("%s judged on %s by the %s check", plural(int64(r.Ops), "answer"), plural(int64(r.Keys), "key"), r.Name))
		}
	}
	judged := ""
	if len(by) > 0 {
		judged = ": " + strings.Join(by, ", ")
	}
	switch {
	case v.LostAcks == nil:
		return "no violation was found" + judged
	case *v.LostAcks > 0:
		return fmt.Sprintf("%s lost, all younger than the window of %s, as ack: %s allows%s",
			plural(int64(*v.LostAcks), "acknowledged write"), duration(v.System.Window), v.System.Ack, judged)
	}
	return "no acknowledged write was lost" + judged
}

func (v *Verdict) butMissed() string {
	switch n := v.missed(); n {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf("; but 1 of %d expectations is missed", len(v.Expectations))
	default:
		return fmt.Sprintf("; but %d of %d expectations are missed", n, len(v.Expectations))
	}
}

func lowerFirst(s string) string {
	for _, word := range []string{"The ", "No "} {
		if rest, ok := strings.CutPrefix(s, word); ok {
			return strings.ToLower(word) + rest
		}
	}
	return s
}

// about describes the system in words.
func (s System) about() string {
	text := s.Name
	if s.Version != "" {
		text += " " + s.Version
	}
	if s.URL != "" {
		text += " at " + s.URL
	}
	if s.Nodes > 0 {
		text += ", " + plural(int64(s.Nodes), "node")
	}
	if s.Store != "" {
		text += ", store: " + s.Store
	}
	if s.Network != "" {
		text += ", network: " + s.Network
	}
	text += ", ack: " + s.Ack
	if s.Window > 0 {
		text += " with window " + duration(s.Window)
	}
	if s.Bug != "" {
		text += ", planted bug " + s.Bug
		if s.Reveals != "" {
			text += ", which must show as " + s.Reveals
		}
	}
	return text
}

// about says what the generator did, in sentences.
func (l Load) about(within map[string]float64) []string {
	speed := rate(l.AchievedRate) + " achieved"
	if l.RequestedRate != nil {
		speed = rate(*l.RequestedRate) + " requested, " + speed
	}
	lines := []string{fmt.Sprintf("%s for %s; %s due: %s ok, %s fail, %s info, %s unsent",
		speed, duration(l.Duration), count(l.Scheduled), count(l.OK), count(l.Fail), count(l.Info), count(l.Unsent))}
	if share, ok := within["1s"]; ok {
		lines[0] += fmt.Sprintf("; %s answered ok within 1 s", percent(share))
	}
	lag := "send lag unknown"
	if l.SendLag.P99 != nil {
		lag = fmt.Sprintf("send lag p50 %s, p99 %s, max %s", maybe(l.SendLag.P50), maybe(l.SendLag.P99), maybe(l.SendLag.Max))
	}
	return append(lines, fmt.Sprintf("generator %s, %s", l.Generator, lag))
}

// what names the fault's action and targets: "pod-kill n2 (store-leader)".
func (f *Fault) what() string {
	text := f.Action
	if text == "" {
		text = f.Kind
	}
	targets := make([]string, len(f.Targets))
	for i, t := range f.Targets {
		targets[i] = t
		if role := f.Roles[t]; role != "" {
			targets[i] += " (" + role + ")"
		}
	}
	if len(targets) > 0 {
		text += " " + strings.Join(targets, ", ")
	}
	return text
}

// evidence says what is known about whether and when the fault happened.
func (f *Fault) evidence() string {
	text := string(f.Evidence.Verdict)
	switch {
	case f.Injected != nil:
		text = "at " + instant(*f.Injected) + ", " + text
	case f.Requested != nil:
		text = "requested at " + instant(*f.Requested) + ", never injected, " + text
	}
	return text + because(f.Evidence.Detail)
}

// recovered says in words how the system came back; empty if the fault was not
// injected.
func (f *Fault) recovered() string {
	r := f.Recovery
	if r == nil {
		return ""
	}
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	switch {
	case r.Impact == nil && r.Outage.Max == nil:
		add("no traffic after it, so its impact is unknown")
	case r.Impact == nil:
		add("no impact seen")
	default:
		if *r.Impact == 0 {
			add("impact at once")
		} else {
			add("impact after %s", duration(*r.Impact))
		}
		if r.FirstOK != nil {
			add("first ok after %s", duration(*r.FirstOK))
		}
		switch {
		case r.Outage.N > 0:
			add("outage p50 %s, max %s over %s", maybe(r.Outage.P50), maybe(r.Outage.Max), plural(int64(r.Outage.N), "key"))
		case r.Outage.Max != nil:
			add("outage at least %s", duration(*r.Outage.Max))
		}
	}
	if r.KeysDead > 0 {
		add("%s never answered again", plural(int64(r.KeysDead), "key"))
	}
	if r.Steady != nil {
		add("steady after %s", duration(*r.Steady))
	} else {
		add("not steady again")
	}
	if r.GoodputDeficit > 0 {
		add("%s not answered ok", plural(r.GoodputDeficit, "operation"))
	}
	switch {
	case r.LostAcks == nil:
		add("lost acknowledged writes unknown")
	case *r.LostAcks == 0:
		add("0 acknowledged writes lost")
	case *r.RPO == 0:
		add("%s lost, acknowledged after the injection", plural(int64(*r.LostAcks), "acknowledged write"))
	default:
		add("%s lost, the oldest %s old", plural(int64(*r.LostAcks), "acknowledged write"), maybe(r.RPO))
	}
	return strings.Join(parts, "; ")
}

var recoveryColumns = []string{"fault", "impact", "first ok", "outage p50", "outage max", "keys", "steady", "not ok", "lost acks", "RPO", "dead keys"}

// recoveryCells are the figures of recovered, one per column.
func (f *Fault) recoveryCells() []string {
	r := f.Recovery
	if r == nil {
		return []string{f.Name, "not injected", "", "", "", "", "", "", "", "", ""}
	}
	impact, firstOK, steady, lost := "none", "-", "never", "unknown"
	if r.Impact != nil {
		impact = duration(*r.Impact)
		firstOK = "never"
	} else if r.Outage.Max == nil {
		impact = "unknown"
	}
	if r.FirstOK != nil {
		firstOK = duration(*r.FirstOK)
	}
	if r.Steady != nil {
		steady = duration(*r.Steady)
	}
	if r.LostAcks != nil {
		lost = count(int64(*r.LostAcks))
	}
	return []string{f.Name, impact, firstOK, maybe(r.Outage.P50), maybe(r.Outage.Max), count(int64(r.Outage.N)),
		steady, count(r.GoodputDeficit), lost, maybe(r.RPO), count(int64(r.KeysDead))}
}

// answeredOK says how many operations were answered ok per second, per part of
// the load that has a length.
func (v *Verdict) answeredOK() []string {
	var lines []string
	for _, t := range []struct {
		name string
		rate *float64
	}{{"whole load", v.Throughput.All}, {"steady", v.Throughput.Steady}, {"during faults", v.Throughput.DuringFaults}} {
		if t.rate != nil {
			lines = append(lines, fmt.Sprintf("Answered ok, %s: %s", t.name, rate(*t.rate)))
		}
	}
	return lines
}

// judged says what a check judged and what it found.
func judged(r check.Result) string {
	text := fmt.Sprintf("%s on %s", plural(int64(r.Ops), "operation"), plural(int64(r.Keys), "key"))
	if r.Total > 0 {
		text += "; " + kinds(r)
	}
	if r.Undecided > 0 {
		text += fmt.Sprintf("; %s undecided", plural(int64(r.Undecided), "key"))
	}
	if len(r.Reasons) > 0 {
		text += "; " + strings.Join(r.Reasons, "; ")
	}
	return text
}

// row is one line of the latency table.
type row struct {
	name string
	stats.Summary
}

// latencies are the lines of the latency table.
func (v *Verdict) latencies() []row {
	rows := []row{{"all", v.Latency.All}, {"steady", v.Latency.Steady}, {"during faults", v.Latency.DuringFaults}}
	for _, name := range slices.Sorted(maps.Keys(v.Latency.ByOp)) {
		rows = append(rows, row{"op " + name, v.Latency.ByOp[name]})
	}
	return rows
}

// cells are the values of a latency row: p50, p90, p99, p99.9, max, n.
func (r row) cells() []string {
	cells := make([]string, 0, 6)
	for _, d := range []time.Duration{r.P50, r.P90, r.P99, r.P999, r.Max} {
		if r.N == 0 {
			cells = append(cells, "-")
			continue
		}
		cells = append(cells, duration(d))
	}
	return append(cells, count(r.N))
}

var latencyColumns = []string{"p50", "p90", "p99", "p99.9", "max", "n"}

// confirmed tells whether the fault certainly happened.
func (f *Fault) confirmed() bool {
	return f.Injected != nil && f.Evidence.Verdict == history.Confirmed
}

// replay is the command that runs this again, file the scenario.
func (v *Verdict) replay(file string) string {
	if v.script != "" {
		return "statequake-k6 run --out statequake=DIR " + shellWord(harmless(v.script))
	}
	return "statequake run " + shellWord(harmless(file))
}
