package compare

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"statequake/history"
	"statequake/reports"
)

const ms = time.Millisecond

// story is a run whose history a test writes: one operation every 10 ms is due
// in a load of 8 s that starts at start. A fault is injected 4 s into it; for
// half a second nothing is answered, and then all of it.
type story struct {
	start   time.Duration
	latency time.Duration
	load    time.Duration
	faults  int
	name    string // of the scenario; and, numbered, of its faults
}

// record writes the run as number i of the folder side.
func (s story) record(t testing.TB, side string, i int) {
	t.Helper()
	dir := filepath.Join(side, fmt.Sprintf("%04d", i))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if s.load == 0 {
		s.load, s.faults, s.name = 8*time.Second, 1, "story"
	}
	w, err := history.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	injected := s.start + s.load/2
	n := int64(s.load / (10 * ms))
	for i := range n {
		at := s.start + time.Duration(i)*10*ms
		op := history.Op{ID: fmt.Sprintf("7f3a-l%d", i), N: i, Phase: history.Load, Entity: "counter", Key: "k", Name: "add", Scheduled: at, Sent: at,
			Returned: at + s.latency, Attempts: 1, Version: -1, Outcome: history.OK}
		if at >= injected && at < injected+500*ms {
			op.Returned = injected + 500*ms + s.latency
		}
		if i == 100 {
			op.Outcome, op.Error = history.Info, "timeout"
		}
		w.Op(&op)
	}
	if err := w.Close(history.Footer{Scheduled: map[history.Phase]int64{history.Load: n}, End: s.start + s.load}); err != nil {
		t.Fatal(err)
	}
	var faults []any
	for i := range s.faults {
		faults = append(faults, map[string]any{
			"name": fmt.Sprintf("%s-%d", s.name, i), "requested_ns": injected - ms, "injected_ns": injected, "recovered_ns": injected + time.Second,
			"recovery": map[string]any{"outage_ns": map[string]any{"max": 500 * ms}, "steady_ns": 600 * ms, "keys_dead": 0},
		})
	}
	data, err := json.Marshal(map[string]any{
		"version": 1, "verdict": "pass", "scenario": s.name, "seed": i, "system": map[string]any{"ack": "durable"}, "lost_acks": 0,
		"load":             map[string]any{"ok": n - 1, "start_ns": s.start, "duration_ns": s.load},
		"latency_ns":       map[string]any{"all": map[string]any{"p50": s.latency, "p99": s.latency, "n": n - 1}},
		"throughput_per_s": map[string]any{"all": 100}, "faults": faults,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, verdictFile), data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// embedded is the data of a page, as its script reads it.
func embedded(t *testing.T, page []byte) map[string]any {
	t.Helper()
	_, rest, ok := bytes.Cut(page, []byte(`<script type="application/json" id="data">`))
	data, _, end := bytes.Cut(rest, []byte("</script>"))
	var v map[string]any
	if err := json.Unmarshal(data, &v); err != nil || !ok || !end {
		t.Fatalf("the page holds no data: %v", err)
	}
	return v
}

// pick walks through the data by field names and indexes.
func pick(t *testing.T, v any, path ...any) any {
	t.Helper()
	for _, p := range path {
		switch p := p.(type) {
		case string:
			v = v.(map[string]any)[p]
		case int:
			v = v.([]any)[p]
		}
	}
	return v
}

// Runs are laid over one another at the start of their loads, whenever that was;
// several of a side as median and range.
func TestPageOverlaysRuns(t *testing.T) {
	dir := t.TempDir()
	base, head := filepath.Join(dir, "base"), filepath.Join(dir, "head")
	for i, l := range []time.Duration{4 * ms, 5 * ms, 9 * ms} {
		story{start: time.Second + time.Duration(i)*777*ms, latency: l}.record(t, base, i)
		story{start: 3*time.Second + time.Duration(i)*333*ms, latency: 10 * l}.record(t, head, i)
	}
	c := compareRuns(t, base, []string{head}, "")
	page, err := c.html()
	if err != nil {
		t.Fatal(err)
	}
	data := embedded(t, page)
	for _, tt := range []struct {
		path []any
		want any
	}{
		{[]any{"end_s", 0}, 8.0},
		{[]any{"width_s", 0}, 0.2},
		{[]any{"at_s", 39}, 7.8},
		{[]any{"sides", 0, "name"}, "base"},
		{[]any{"sides", 1, "name"}, "head"},
		{[]any{"sides", 1, "runs"}, 3.0},
		{[]any{"sides", 0, "p50_ms", "median", 0}, 5.0},
		{[]any{"sides", 0, "p50_ms", "low", 0}, 4.0},
		{[]any{"sides", 0, "p50_ms", "high", 0}, 9.0},
		{[]any{"sides", 1, "p99_ms", "median", 0}, 50.0},
		{[]any{"sides", 1, "p99_ms", "high", 0}, 90.0},
		{[]any{"sides", 0, "ok_per_s", "median", 1}, 100.0},
		{[]any{"sides", 0, "ok_per_s", "median", 21}, 0.0},   // 200 ms after the fault nobody answers
		{[]any{"sides", 0, "ok_per_s", "median", 22}, 300.0}, // 50 due in the fault and 10 after it, in 200 ms
		{[]any{"sides", 0, "not_ok_per_s", "median", 5}, 5.0},
		{[]any{"sides", 0, "not_ok_per_s", "median", 6}, 0.0},
		{[]any{"sides", 0, "distribution_ms", "median", 0}, 5.0},
		{[]any{"sides", 0, "faults", 0, "name"}, "story-0"},
		{[]any{"sides", 0, "faults", 0, "marks_s", 0}, 3.999},
		{[]any{"sides", 1, "faults", 0, "marks_s", 1}, 4.0},
		{[]any{"sides", 1, "faults", 0, "marks_s", 2}, 5.0},
		{[]any{"sides", 1, "faults", 0, "marks_s", 3}, 4.6},
		{[]any{"recovery", 0, "name"}, "story-0"},
		{[]any{"recovery", 0, "at_s", 0}, -3.0},
		{[]any{"recovery", 0, "sides", 1, "median", 5}, 100.0},
		{[]any{"recovery", 0, "sides", 0, "median", 16}, 0.0},
		{[]any{"recovery", 0, "sides", 0, "median", 74}, nil}, // the load is over
	} {
		if got := pick(t, data, tt.path...); got != tt.want {
			if v, ok := got.(float64); ok {
				if want, ok := tt.want.(float64); ok && math.Abs(v-want) < 1e-9 {
					continue
				}
			}
			t.Errorf("%v is %v, want %v", tt.path, got, tt.want)
		}
	}
	text := strings.ReplaceAll(string(page), "\u00a0", " ")
	for _, want := range []string{"5.00 ms (4.00 ms to 9.00 ms)", "50.0 ms (40.0 ms to 90.0 ms)", "500 ms"} {
		if !strings.Contains(strings.ReplaceAll(text, "0.50 s", "500 ms"), want) {
			t.Errorf("the tables lack %q", want)
		}
	}

	// A run without a history is missing in the charts, and that is said.
	if err := os.Remove(filepath.Join(head, "0001", "history.jsonl")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(head, "0002", "history.jsonl"), []byte("torn\n{}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if page, err = c.html(); err != nil {
		t.Fatal(err)
	}
	if n := pick(t, embedded(t, page), "sides", 1, "runs"); n != 1.0 {
		t.Errorf("%v runs are drawn, want 1", n)
	}
	for _, want := range []string{"1 run is not in the charts: there is no history.jsonl", "0002 of head is not in the charts: "} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page does not say %q", want)
		}
	}
}

// crowd is the largest comparison that there is, in which all is hostile.
func crowd(t *testing.T, recorded bool) *Comparison {
	t.Helper()
	const bad = "</script><script>alert(1)</script><img src=http://evil.example/x>|`*_[a](b)\x1b[31m\u202e\x00\n# "
	dir := t.TempDir()
	var sides []*Side
	for i := range maxHeads + 1 {
		n := 10_000 / maxHeads
		if i == 0 {
			n = 3
		}
		s := &Side{Path: fmt.Sprintf("%s%d", strings.Repeat(bad, 20), i)}
		if recorded && i < maxDrawn {
			path := filepath.Join(dir, fmt.Sprint(i))
			for j := range 2 {
				// As many buckets as there are, each another number.
				story{start: time.Second, latency: time.Duration(1234567+i*1111*j+j) * time.Nanosecond, load: 48 * time.Second, faults: 30, name: bad}.record(t, path, j)
			}
			loaded, err := Load(path)
			if err != nil {
				t.Fatal(err)
			}
			s.Runs = loaded.Runs
		}
		for j := range n {
			run := typical.slower(1 + float64(i)/10).run()
			run.Name = fmt.Sprintf("%s%d", bad, j)
			run.verdict.Scenario = bad
			if i > 0 {
				run.verdict.Verdict = "violation"
				if err := json.Unmarshal(fmt.Appendf(nil, `[{"name": %q, "verdict": "violation", "kinds": {%q: 3, "x\u202e": 1}}]`, "c", "kind<b>"), &run.verdict.Checks); err != nil {
					t.Fatal(err)
				}
			}
			s.Runs = append(s.Runs, run)
		}
		for j := range s.Runs {
			s.Runs[j].verdict.Scenario = bad
		}
		sides = append(sides, s)
	}
	return mustCompareAll(t, sides[0], sides[1:], Config{Pairing: Unpaired, Gate: &Gate{File: bad}})
}

// The page has at most 1 MB and holds nothing of what names say but text.
func TestPageOfACrowd(t *testing.T) {
	c := crowd(t, true)
	page, err := c.html()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes", len(page))
	if len(page) > 1_000_000 {
		t.Errorf("the page has %d bytes", len(page))
	}
	text := string(page)
	if n := strings.Count(text, "<script"); n != 2 {
		t.Errorf("%d scripts, want 2", n)
	}
	if strings.Contains(text, "<img") || strings.ContainsAny(text, "\x00\x1b\u202e") {
		t.Error("a name has become markup, or steers a terminal")
	}
	if strings.Contains(text, "ZgotmplZ") {
		t.Error("the template refused a value")
	}
	labels := regexp.MustCompile(` aria-label="[^"]*"`) // a name in quotes is no tag
	for _, link := range regexp.MustCompile(`(?i)<[a-z][^>]*\s(?:src|href)=("[^"]*"|[^\s>]+)`).FindAllStringSubmatch(labels.ReplaceAllString(text, ""), -1) {
		if link[1] != `"data:,"` {
			t.Errorf("the page asks for %s", link[1])
		}
	}
	style := reports.ChartStyle() + "\n" + reports.PageStyle() + "\n" + pageStyle
	script := reports.ChartScript() + "\n" + pageScript
	for _, want := range []string{
		"default-src &#39;none&#39;", reports.PageFingerprint(style), reports.PageFingerprint(script),
		"9,800 more are in the JSON form", "12 more heads are in the tables only",
	} {
		if !strings.Contains(strings.ReplaceAll(text, "&#43;", "+"), want) && !strings.Contains(text, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	embedded(t, page)
}

// The Markdown form fits into a comment on GitHub, says what it leaves out, and
// begins with what matters.
func TestMarkdownFits(t *testing.T) {
	c := crowd(t, false)
	n := 0
	for _, r := range c.Heads {
		n += len(r.Violations)
	}
	if n != 10_000 {
		t.Fatalf("%d violations", n)
	}
	var b bytes.Buffer
	if err := c.Markdown(&b); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	t.Logf("%d bytes", len(text))
	if len(text) > maxMarkdown || len(text) < maxMarkdown/10 {
		t.Errorf("%d bytes, want at most %d, and not next to nothing", len(text), maxMarkdown)
	}
	first := strings.SplitN(text, "\n", 5)
	if !strings.HasPrefix(first[0], "## ✗ VIOLATION: ") || first[2] != "**Of 20 heads 20 broke their contracts.**" {
		t.Errorf("it begins with %q", first[:3])
	}
	left := 0
	for _, match := range regexp.MustCompile(`(?m)^- ([\d,]+) more violations left out$`).FindAllStringSubmatch(text, -1) {
		fmt.Sscan(strings.ReplaceAll(match[1], ",", ""), &left)
	}
	shown := strings.Count(text, "kind\\<b\\>")
	if left == 0 || shown < openViolations || left+shown != n {
		t.Errorf("%d violations are shown and %d left out, of %d", shown, left, n)
	}
	if !regexp.MustCompile(`(?m)^Shortened by [\d,]+ lines, since a comment on GitHub holds 65,536 characters`).MatchString(text) {
		t.Error("it does not say that it is shortened")
	}
	if strings.Count(text, "<details>") != strings.Count(text, "</details>") || strings.ContainsAny(text, "\x00\x1b\u202e") {
		t.Error("what is folded is not closed, or a name steers a terminal")
	}

	// Nothing is left out where it need not be.
	same := func(int) figures { return typical }
	b.Reset()
	if err := mustCompareAll(t, side("base", 9, same), []*Side{side("a", 9, same), side("b", 9, same)}, Config{}).Markdown(&b); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "left out") || strings.Contains(b.String(), "Shortened") {
		t.Errorf("shortened:\n%s", &b)
	}
}

// The text is for a terminal whatever names say.
func TestTextOfACrowd(t *testing.T) {
	var b bytes.Buffer
	if err := crowd(t, false).Text(&b); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(b.String(), "\x00\x1b\u202e") || strings.Contains(b.String(), "\n# ") {
		t.Error("a name steers the terminal")
	}
}

// The picture of a metric says what its decision says.
func TestForest(t *testing.T) {
	v := func(f float64) *float64 { return &f }
	s := scale{limit: math.Log(2)}
	for _, tt := range []struct {
		name string
		m    Metric
		want forest
	}{
		{"no change", Metric{Scale: "ratio", Estimate: v(1), Low: v(0.5), High: v(2)}, forest{Estimate: 0.5, Margin: 0.5, Low: 0, High: 1, Bounded: true}},
		{"worse is to the right", Metric{Scale: "ratio", Estimate: v(math.Sqrt2), Low: v(1), High: v(2)}, forest{Estimate: 0.75, Margin: 0.5, Low: 0.5, High: 1, Bounded: true}},
		{"also if higher is better", Metric{Scale: "ratio", Better: "higher", Estimate: v(1 / math.Sqrt2), Low: v(0.5), High: v(1)}, forest{Estimate: 0.75, Margin: 0.5, Low: 0.5, High: 1, Bounded: true}},
		{"beyond the axis", Metric{Scale: "ratio", Estimate: v(8), Low: v(4), High: v(16), Margin: 1}, forest{Estimate: 1, Margin: 1, Low: 1, High: 1, Bounded: true, CutHigh: true, Beyond: true}},
		{"no interval", Metric{Scale: "ratio", Estimate: v(1)}, forest{Estimate: 0.5, Margin: 0.5, Low: 0.5, High: 0.5}},
		{"a difference", Metric{Scale: "difference", Estimate: v(5), Low: v(0), High: v(10), Base: v(100), Margin: 0.05}, forest{Estimate: 0.5 + 2.5/11, Margin: 0.5 + 2.5/11, Low: 0.5, High: 0.5 + 5.0/11, Bounded: true, Own: true}},
		{"nothing", Metric{Scale: "difference", Estimate: v(0), Base: v(0)}, forest{Estimate: 0.5, Margin: 0.5, Low: 0.5, High: 0.5, Own: true}},
	} {
		got := *s.place(&tt.m)
		got.Says = ""
		for _, f := range []*float64{&got.Estimate, &got.Margin, &got.Low, &got.High, &tt.want.Estimate, &tt.want.Margin, &tt.want.Low, &tt.want.High} {
			*f = math.Round(*f*1e6) / 1e6
		}
		if got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
	if s.place(&Metric{Scale: "ratio"}) != nil {
		t.Error("something is drawn without an estimate")
	}
}

// Lines have a bounded number of points, whatever the length of the load.
func TestBucketsAreBounded(t *testing.T) {
	for _, load := range []time.Duration{0, time.Second, 48 * time.Second, 49 * time.Second, time.Hour, 24 * time.Hour, 30 * 24 * time.Hour} {
		if n := load / bucketWidth(load); n > maxBuckets {
			t.Errorf("%v: %d buckets", load, n)
		}
	}
}

// The colours that the page uses are those of report.html's style sheet: an
// unknown one would be drawn black, and nobody would say so.
func TestColoursExist(t *testing.T) {
	style := reports.PageStyle()
	names := regexp.MustCompile(`--[a-z][a-z0-9]*`).FindAllString(pageScript+pageStyle+pageText, -1)
	if len(names) < 20 {
		t.Fatalf("only %d colours are used", len(names))
	}
	for _, name := range names {
		if !strings.Contains(style, name+":") {
			t.Errorf("%s is not in the style sheet", name)
		}
	}
}

// FORMAT.md has every field of the JSON form.
func TestFormatOfComparison(t *testing.T) {
	text, err := os.ReadFile("../../history/FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "## The JSON form of a comparison")
	section, _, ok := strings.Cut(section, "\n## ")
	if !ok {
		t.Fatal("FORMAT.md does not define the JSON form")
	}
	limit := 1.0
	base := side("base", 9, func(int) figures { return typical })
	for i := range base.Runs {
		base.Runs[i].verdict.Load.AchievedRate = 500
	}
	c := mustCompareAll(t, base, []*Side{side("head", 9, func(int) figures { return typical.slower(1.2) })}, Config{Gate: &Gate{}, Budgets: Budgets{"p50": {Max: &limit}}})
	data, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`"([a-z0-9_]+)":`).FindAllSubmatch(data, -1)
	if len(names) < 100 {
		t.Fatalf("only %d fields in %s", len(names), data)
	}
	for _, name := range names {
		if !regexp.MustCompile(`\b` + string(name[1]) + `\b`).MatchString(section) {
			t.Errorf("FORMAT.md lacks %s", name[1])
		}
	}
}
