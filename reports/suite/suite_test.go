package suite

import (
	"bytes"
	"cmp"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"statequake/reports/check"
	"statequake/reports/stats"
)

// known is what a verdict.json of the tests says.
type known struct {
	verdict   string
	p99       int    // ms, 0: nothing was answered
	lost      string // lost_acks
	outage    string // longest, in ns, or null; empty: no fault
	generator string
	missed    bool
	stopped   string
	knee      string
	limit     string // of the search for the knee
	reason    string
}

func (k known) json() string {
	latency := `{"p50":null,"p99":null,"n":0}`
	if k.p99 > 0 {
		latency = fmt.Sprintf(`{"p50":%d,"p90":%[1]d,"p99":%d,"p999":%[2]d,"max":%[2]d,"n":100}`, k.p99*100_000, k.p99*1_000_000)
	}
	faults, expectations, search := "", "", ""
	if k.outage != "" {
		faults = fmt.Sprintf(`{"name":"kill","kind":"PodChaos","evidence":{"verdict":"confirmed"},"recovery":{"outage_ns":{"p50":null,"max":%s,"n":1},"keys_dead":0}}`, k.outage)
	}
	if k.missed {
		expectations = `{"name":"all.p99","limit":"1ms","measured":"2ms","met":false}`
	}
	if k.knee != "" {
		search = fmt.Sprintf(`"find_max":{"knee_rate_per_s":%s,"limited_by":%q},`, k.knee, cmp.Or(k.limit, string(stats.LimitBound)))
	}
	if k.generator == "" {
		k.generator = "valid"
	}
	if k.lost == "" {
		k.lost = "0"
	}
	reason, _ := json.Marshal(k.reason)
	return fmt.Sprintf(`{"version":1,"verdict":%q,"reasons":[%s],"scenario":"s","system":{"name":"reference","nodes":3,"ack":"durable"},%s
		"load":{"scheduled":100,"ok":100,"requested_rate_per_s":100,"achieved_rate_per_s":%d,"duration_ns":1000000000,"generator":%q,"stopped":%q},
		"latency_ns":{"all":%s},"throughput_per_s":{"all":99},"checks":[],"lost_acks":%s,"faults":[%s],"expectations":[%s],
		"machine":{"os":"linux","arch":"amd64","cpus":2}}`,
		k.verdict, reason, search, 90+k.p99%10, k.generator, k.stopped, latency, k.lost, faults, expectations)
}

// planned is a suite of the tests: scenario -> its runs; nil is a run without a
// verdict, and torn is one that was cut short.
type planned struct {
	Planned
	runs []*known
}

var torn = &known{verdict: "torn"}

func write(t *testing.T, all ...planned) string {
	t.Helper()
	dir := t.TempDir()
	p := Plan{Suite: "mine", Claim: "it <b>works</b>", Statequake: "1.2.3", Command: []string{"statequake", "run", "my suite"}, Runs: 1}
	for _, s := range all {
		p.Runs = max(p.Runs, len(s.runs))
	}
	put := func(name, text string) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range all {
		p.Scenarios = append(p.Scenarios, s.Planned)
		for i, k := range s.runs {
			switch k {
			case nil:
			case torn:
				put(filepath.Join(p.Dir(&s.Planned, i+1), "scenario.yaml"), "name: x\n")
				put(p.Log(&s.Planned, i+1), "starting\nstatequake: the <i>disk</i> is full\nhint: make room\n")
			default:
				put(filepath.Join(p.Dir(&s.Planned, i+1), "verdict.json"), k.json())
			}
		}
	}
	if err := p.Write(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func load(t *testing.T, dir string) *Summary {
	t.Helper()
	s, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func pass(p99 int) *known { return &known{verdict: "pass", p99: p99} }

// Of several outcomes that of the first exit code in 1, 3, 2, 4, 0 wins, and
// nothing but runs that passed makes a suite pass.
func TestOutcomes(t *testing.T) {
	one := func(name string, k *known) planned { return planned{Planned{Name: name}, []*known{k}} }
	cannot := planned{Planned: Planned{Name: "fuse", CannotRun: "FUSE: no /dev/fuse"}, runs: []*known{nil}}
	skipped := cannot
	skipped.Skipped = true
	violation := &known{verdict: "violation", lost: "3"}
	unknown, missed := &known{verdict: "unknown"}, &known{verdict: "pass", missed: true, p99: 5}
	for name, c := range map[string]struct {
		runs    []planned
		exit    int
		verdict check.Verdict
		says    string
	}{
		"pass":              {[]planned{one("a", pass(1)), one("b", pass(2))}, 0, check.Pass, "all 2 runs passed"},
		"alone":             {[]planned{one("a", pass(1))}, 0, check.Pass, "the one run passed"},
		"missed":            {[]planned{one("a", pass(1)), one("b", missed)}, 4, check.Pass, "of 2 runs 1 missed an expectation (b), 1 passed"},
		"unknown":           {[]planned{one("a", missed), one("b", unknown)}, 2, check.Unknown, "of 2 runs 1 proves nothing (b), 1 missed an expectation (a)"},
		"no verdict":        {[]planned{one("a", unknown), one("b", torn)}, 3, check.Unknown, "of 2 runs 1 has no verdict (b), 1 proves nothing (a)"},
		"violation":         {[]planned{one("a", torn), one("b", violation)}, 1, check.Violated, "of 2 runs 1 broke the contract (b), 1 has no verdict (a)"},
		"not run":           {[]planned{one("a", pass(1)), one("b", nil)}, 2, check.Unknown, "of 2 runs 1 was not run (b), 1 passed"},
		"stopped":           {[]planned{one("a", &known{verdict: "pass", stopped: "interrupt", p99: 1})}, 2, check.Unknown, "of 1 run 1 was stopped early (a)"},
		"stopped violation": {[]planned{one("a", &known{verdict: "violation", stopped: "interrupt"})}, 1, check.Violated, "of 1 run 1 broke the contract (a)"},
		"cannot run":        {[]planned{one("a", pass(1)), cannot}, 2, check.Unknown, "of 2 runs 1 cannot run here (fuse), 1 passed"},
		"skipped":           {[]planned{one("a", pass(1)), skipped}, 0, check.Pass, "of 2 runs 1 was skipped (fuse), 1 passed"},
		"all skipped":       {[]planned{skipped}, 2, check.Unknown, "every scenario was skipped, so the suite proves nothing"},
		"empty":             {nil, 2, check.Unknown, "the suite has no scenario, so it proves nothing"},
	} {
		s := load(t, write(t, c.runs...))
		if s.ExitCode() != c.exit || s.Verdict != c.verdict || s.Says != c.says {
			t.Errorf("%s: exit code %d, %s, %q; want %d, %s, %q", name, s.ExitCode(), s.Verdict, s.Says, c.exit, c.verdict, c.says)
		}
		if _, _, word := s.state(); (word == "PASS") != (c.exit == 0) {
			t.Errorf("%s: the page says %s", name, word)
		}
	}
}

func TestFigures(t *testing.T) {
	dir := write(t,
		planned{Planned{Name: "a", Seed: 40}, []*known{
			{verdict: "pass", p99: 30, outage: "2000000000", knee: "700", generator: "degraded"}, {verdict: "pass", p99: 10, outage: "null", knee: "500"},
			{verdict: "pass", p99: 22, missed: true, knee: "9000", limit: "generator"}, {verdict: "pass", p99: 20, lost: "null"}, {verdict: "violation", p99: 1, lost: "7", outage: "3000000000"},
		}},
		planned{Planned{Name: "b"}, []*known{{verdict: "unknown", generator: "invalid", p99: 9}, nil, nil, nil, nil}},
		planned{Planned{Name: "c"}, []*known{{verdict: "pass", knee: "800", limit: "generator"}, {verdict: "pass", knee: "700", limit: "end"}, nil, nil, nil}},
	)
	s := load(t, dir)
	a, b := s.Scenarios[0], s.Scenarios[1]
	if want := (Spread{N: 4, Median: 21e6, Min: 10e6, Max: 30e6}); a.P99 == nil || *a.P99 != want {
		t.Errorf("p99 %+v, want %+v: the run with a violation was fast by doing less", a.P99, want)
	}
	if want := (Spread{N: 2, Median: 600, Min: 500, Max: 700}); a.Knee == nil || *a.Knee != want {
		t.Errorf("knee %+v, want %+v", a.Knee, want)
	}
	if c := s.Scenarios[2]; c.Knee != nil || c.knee().String() != "≥ 800/s limited by: generator" {
		t.Errorf("the load generator's limit is taken for that of the system: %v, %q", c.Knee, c.knee())
	}
	if a.OutageMax == nil || a.OutageMax.Seconds() != 3 {
		t.Errorf("outage %v, want that of the run with the violation, too", a.OutageMax)
	}
	if a.LostAcks != nil {
		t.Errorf("%d acknowledgements are lost, but one run does not know", *a.LostAcks)
	}
	if a.Generator != "degraded" || b.Generator != "invalid" {
		t.Errorf("generators %s and %s", a.Generator, b.Generator)
	}
	if b.P99 != nil || b.rates().Median != none {
		t.Errorf("a run that proves nothing gives p99 %v, rates %v", b.P99, b.rates())
	}
	if a.Outcome != Violation || b.Outcome != Unknown || a.verdicts() != "1 violation, 1 missed, 3 pass" || b.verdicts() != "1 unknown, 4 not run" {
		t.Errorf("%s: %s; %s: %s", a.Outcome, a.verdicts(), b.Outcome, b.verdicts())
	}
	if f := a.figure(a.P99, nanoseconds); f.String() != "21.0 ms [10.0 to 30.0 ms] n 4" {
		t.Errorf("p99 is written %q", f)
	}
	if r := s.Find("a", 3); r == nil || r.Seed != 42 || r.Dir != "a/0003" || r.Outcome != Missed {
		t.Errorf("run 3 of a is %+v", r)
	}
	if s.Find("a", 6) != nil || s.Find("a", 0) != nil || s.Find("d", 1) != nil {
		t.Error("a run is found that was not planned")
	}
}

// hostile is a suite whose texts try to leave their places.
func hostile(t *testing.T) string {
	evil := "</title><script>alert(1)</script> | [x](javascript:y) \x1b[31m\u202e ]]> & \"'"
	return write(t,
		planned{Planned{Name: "a", Claim: evil, Source: evil}, []*known{{verdict: "unknown", reason: evil}, pass(3)}},
		planned{Planned{Name: "torn"}, []*known{torn, nil}},
		planned{Planned{Name: "fuse", CannotRun: evil, Skipped: true}, []*known{nil, nil}},
		planned{Planned{Name: "space", CannotRun: evil}, []*known{nil, nil}},
		planned{Planned{Name: "lost"}, []*known{{verdict: "violation", lost: "2", outage: "1000000"}, {verdict: "pass", p99: 4, missed: true}}},
	)
}

// The page asks nobody for anything, and nothing that it shows is taken for a
// part of it.
func TestPage(t *testing.T) {
	dir := hostile(t)
	s := load(t, dir)
	if err := s.Write(dir); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "summary.html"))
	if err != nil {
		t.Fatal(err)
	}
	page := string(data)
	for _, bad := range []string{"<script", "http:", "https:", "@import", "url(", "\x1b", "\u202e", "<i>disk", "<b>works"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page holds %q", bad)
		}
	}
	for _, link := range regexp.MustCompile(`(?:href|src)="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		if link[1] != "data:," && !filepath.IsLocal(link[1]) {
			t.Errorf("the page links to %q", link[1])
		}
	}
	for _, want := range []string{
		`default-src &#39;none&#39;`, "✗</span> VIOLATION</h1>", `<a href="a/0001/report.html">`, `<a href="torn/0001.log">log</a>`,
		"No verdict: the &lt;i&gt;disk&lt;/i&gt; is full", "Cannot run here: ", "Skipped, since it cannot run here: ", "it &lt;b&gt;works&lt;/b&gt;",
		`<svg class="strip"`, "run 2: pass, p99 3.00 ms", "statequake run &#39;my suite&#39;",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	again := load(t, dir)
	if err := again.Write(dir); err != nil {
		t.Fatal(err)
	}
	if twice, err := os.ReadFile(filepath.Join(dir, "summary.html")); err != nil || !bytes.Equal(data, twice) {
		t.Errorf("the page differs when it is written again: %v", err)
	}
	var text bytes.Buffer
	if err := s.Text(&text); err != nil || strings.Contains(text.String(), "\x1b") || !strings.Contains(text.String(), "\nfuse, run 1: skipped: ") {
		t.Errorf("the terminal gets %v:\n%s", err, &text)
	}
	md, err := os.ReadFile(filepath.Join(dir, "summary.md"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(md)) {
		if columns := strings.Count(line, "|") - strings.Count(line, `\|`); strings.HasPrefix(line, "|") && columns != 11 {
			t.Errorf("a row of the table has %d separators: %s", columns, line)
		}
		if bare := regexp.MustCompile(`\\.`).ReplaceAllString(line, ""); strings.Contains(bare, "<") || strings.Contains(bare, "](javascript") {
			t.Errorf("markup in Markdown: %s", line)
		}
	}
}

// junit.xml has one test case for each planned run, and its counts are those of
// its elements.
func TestJUnit(t *testing.T) {
	data, err := load(t, hostile(t)).junit()
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		XMLName xml.Name `xml:"testsuites"`
		Suites  []struct {
			Name     string `xml:"name,attr"`
			Tests    int    `xml:"tests,attr"`
			Failures int    `xml:"failures,attr"`
			Errors   int    `xml:"errors,attr"`
			Skipped  int    `xml:"skipped,attr"`
			Cases    []struct {
				Class   string    `xml:"classname,attr"`
				Name    string    `xml:"name,attr"`
				Failure *struct{} `xml:"failure"`
				Error   *struct{} `xml:"error"`
				Skipped *struct{} `xml:"skipped"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(data, &file); err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	if len(file.Suites) != 1 {
		t.Fatalf("%d test suites", len(file.Suites))
	}
	suite := file.Suites[0]
	var got []string
	failures, problems, skipped := 0, 0, 0
	for _, c := range suite.Cases {
		is := "pass"
		if c.Failure != nil {
			failures++
			is = "failure"
		}
		if c.Error != nil {
			problems++
			is = "error"
		}
		if c.Skipped != nil {
			skipped++
			is = "skipped"
		}
		got = append(got, c.Class+" "+c.Name+": "+is)
	}
	want := []string{
		"statequake.mine.a run 1, seed 0: error", "statequake.mine.a run 2, seed 1: pass",
		"statequake.mine.torn run 1, seed 0: error", "statequake.mine.torn run 2, seed 1: error",
		"statequake.mine.fuse run 1, seed 0: skipped", "statequake.mine.fuse run 2, seed 1: skipped",
		"statequake.mine.space run 1, seed 0: error", "statequake.mine.space run 2, seed 1: error",
		"statequake.mine.lost run 1, seed 0: failure", "statequake.mine.lost run 2, seed 1: failure",
	}
	if !slices.Equal(got, want) {
		t.Errorf("test cases\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if suite.Tests != len(want) || suite.Failures != failures || suite.Errors != problems || suite.Skipped != skipped {
		t.Errorf("it counts %d, %d, %d, %d; there are %d, %d, %d, %d", suite.Tests, suite.Failures, suite.Errors, suite.Skipped, len(want), failures, problems, skipped)
	}
	empty, err := load(t, write(t)).junit()
	if err != nil || !bytes.Contains(empty, []byte(`tests="1" failures="0" errors="1"`)) {
		t.Errorf("an empty suite is green: %v\n%s", err, empty)
	}
}

func TestReadPlan(t *testing.T) {
	dir := t.TempDir()
	if IsSuite(dir) {
		t.Error("an empty folder is that of a suite")
	}
	for text, want := range map[string]string{
		`{`:                      "unexpected end",
		`{"version":2}`:          "version 2, this program reads 1",
		`{"version":1,"runs":0}`: "runs: 0",
		`{"version":1,"runs":1,"scenarios":[{"name":"../x"}]}`: `"../x" is not the name of a folder`,
		`{"version":1,"runs":1,"scenarios":[{"name":"a/b"}]}`:  `"a/b" is not the name of a folder`,
	} {
		if err := os.WriteFile(filepath.Join(dir, planFile), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error is %v, want %q", text, err, want)
		}
	}
	// A verdict that cannot be read is none.
	dir = write(t, planned{Planned{Name: "a"}, []*known{{verdict: "perfect"}}})
	if s := load(t, dir); s.ExitCode() != 3 || s.Scenarios[0].Outcome != Failed {
		t.Errorf("exit code %d, %s", s.ExitCode(), s.Scenarios[0].Outcome)
	}
}
