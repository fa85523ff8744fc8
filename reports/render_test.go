package reports

import (
	"bytes"
	"encoding/xml"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"statequake/history"
	"statequake/reports/check"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not as expected; have\n%s\nwant\n%s\n`go test ./reports -update` writes it anew", path, got, want)
	}
}

// runs are the fixed runs of the golden files.
func runs(t *testing.T) map[string]*Verdict {
	violated := newFixture()
	violated.edit(`bug: ""`, "bug: ack-before-journal")
	violated.edit("expect:", "reveals: lost\nexpect:")
	violated.edit("outage_max: 4s", "outage_max: 500ms")
	violated.lose(4)

	unknown := newFixture()
	unknown.faults[2].Proof, unknown.faults[2].Detail = history.Inconclusive, "the process could not be looked up"
	unknown.footer.Stopped = "interrupt"
	unknown.footer.Scheduled[history.Load] = 1203

	verdicts := map[string]*Verdict{"pass": newFixture().judge(t), "violation": violated.judge(t), "unknown": unknown.judge(t)}
	for _, v := range verdicts {
		v.dir = "runs/kill-owner-1"
	}
	return verdicts
}

func TestGolden(t *testing.T) {
	for name, v := range runs(t) {
		var b bytes.Buffer
		if err := Summary(&b, v, false, 80); err != nil {
			t.Fatal(err)
		}
		golden(t, name+".summary.txt", b.Bytes())
		golden(t, name+".report.md", markdown(v))
		golden(t, name+".results.bench", bench(v))
		tests, err := junit(v)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name+".junit.xml", tests)
	}
}

var attributes = regexp.MustCompile("\x1b\\[[0-9;]*m")

func TestSummaryColourAndWidth(t *testing.T) {
	for name, v := range runs(t) {
		for _, width := range []int{0, 20, 80, 100, 200} {
			var plainText, colored bytes.Buffer
			if err := Summary(&plainText, v, false, width); err != nil {
				t.Fatal(err)
			}
			if err := Summary(&colored, v, true, width); err != nil {
				t.Fatal(err)
			}
			if got := attributes.ReplaceAllString(colored.String(), ""); got != plainText.String() {
				t.Errorf("%s: colour changes the words at width %d:\n%s\n%s", name, width, got, plainText.String())
			}
			if strings.Contains(plainText.String(), "\x1b") || !strings.Contains(colored.String(), "\x1b") {
				t.Errorf("%s: colour is not as asked", name)
			}
			limit := width
			switch {
			case width == 0:
				limit = 80
			case width < minWidth:
				limit = minWidth
			}
			for line := range strings.Lines(plainText.String()) {
				if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > limit {
					t.Errorf("%s: a line has %d columns, limit %d:\n%s", name, n, limit, line)
				}
			}
		}
	}
}

// brokenWriter takes nothing.
type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, os.ErrClosed }

func TestSummaryWriteError(t *testing.T) {
	if err := Summary(brokenWriter{}, &Verdict{}, false, 80); err == nil {
		t.Error("an error of the writer is swallowed")
	}
}

// nasty is what a hostile or broken system may say.
const nasty = "a|b\n# h\r\n<script>alert(1)</script> ![x](http://e.example/x) `c` **b** _i_ \x1b[2J\x1b]0;t\a \x00\x08 \u202egnp\u2066 \xff\xfe ]]> & \"q\" @all www.e.example ~~s~~ $x$"

// hostile is a run whose every text of the system's is nasty.
func hostile(t *testing.T) *Verdict {
	f := newFixture()
	f.faults[2].Detail = nasty
	for i := range f.faults {
		f.faults[i].Targets = []string{nasty}
		f.faults[i].Roles = map[string]string{nasty: nasty}
		f.faults[i].Kind, f.faults[i].Action = nasty, nasty
	}
	f.samples[1].Node = nasty
	f.footer.Stopped = nasty
	f.lose(2)
	for i := range f.ops {
		op := &f.ops[i]
		op.Node = nasty
		if op.Name == "get" {
			op.Name = nasty
		}
	}
	v := f.judge(t)
	v.Claim, v.System.Version, v.System.URL, v.Isolation = nasty, nasty, nasty, nasty
	v.Checks = append(v.Checks, check.Result{
		Name: nasty, Verdict: check.Violated, Total: 1, Kinds: map[string]int{nasty: 1}, Reasons: []string{nasty},
		Violations: []check.Violation{{Entity: nasty, Key: nasty, Kind: nasty, Ops: []string{nasty}, Explanation: nasty}},
	})
	v.Expectations = append(v.Expectations, Expectation{Name: nasty, Limit: nasty})
	return v
}

func TestHostileSummary(t *testing.T) {
	var b bytes.Buffer
	if err := Summary(&b, hostile(t), false, 80); err != nil {
		t.Fatal(err)
	}
	shown(t, b.String())
}

// shown fails if text holds anything that is not shown as it is.
func shown(t *testing.T, text string) {
	t.Helper()
	if !utf8.ValidString(text) {
		t.Error("invalid UTF-8 got through")
	}
	for _, r := range text {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Errorf("the character %U got through", r)
		}
	}
}

// A backslash before every character that could mean something, or none left.
func TestHostileMarkdown(t *testing.T) {
	text := string(markdown(hostile(t)))
	shown(t, text)
	for _, live := range []string{`[^\\]<script`, `[^\\]!\\?\[`, `[^\\]\]\(`, "[^\\\\]`c", `[^\\]~~`, `http://`, `www\.`, `[^\\]@all`, `[^\\]\$x`, `[^\\]&`} {
		if found := regexp.MustCompile(live).FindString(text); found != "" {
			t.Errorf("%q is live", found)
		}
	}
	// Every row of a table has as many cells as its head.
	cell := regexp.MustCompile(`(^|[^\\])\|`)
	columns := 0
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "|") {
			columns = 0
			continue
		}
		n := len(cell.FindAllString(strings.ReplaceAll(line, "||", "| |"), -1))
		if columns == 0 {
			columns = n
		}
		if n != columns {
			t.Errorf("a row has %d bars, its head %d: %s", n, columns, line)
		}
	}
}

// readJUnit reads a JUnit report back, independently of the types that wrote it.
func readJUnit(t *testing.T, data []byte) (cases map[string]string, counts map[string]string) {
	t.Helper()
	var doc struct {
		Suites []struct {
			Attrs []xml.Attr `xml:",any,attr"`
			Cases []struct {
				Class   string `xml:"classname,attr"`
				Name    string `xml:"name,attr"`
				Failure *struct {
					Message string `xml:"message,attr"`
					Text    string `xml:",chardata"`
				} `xml:"failure"`
				Error *struct {
					Message string `xml:"message,attr"`
				} `xml:"error"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(data, &doc); err != nil {
		t.Fatalf("the report is no XML: %v", err)
	}
	if len(doc.Suites) != 1 {
		t.Fatalf("the report has %d suites, want 1", len(doc.Suites))
	}
	cases, counts = map[string]string{}, map[string]string{}
	for _, a := range doc.Suites[0].Attrs {
		counts[a.Name.Local] = a.Value
	}
	for _, c := range doc.Suites[0].Cases {
		state := "ok"
		switch {
		case c.Failure != nil:
			state = "failure: " + c.Failure.Message + "\n" + c.Failure.Text
		case c.Error != nil:
			state = "error: " + c.Error.Message
		}
		cases[c.Class+"/"+c.Name] = state
	}
	return cases, counts
}

func TestHostileJUnit(t *testing.T) {
	data, err := junit(hostile(t))
	if err != nil {
		t.Fatal(err)
	}
	cases, _ := readJUnit(t, data)
	shown(t, strings.ReplaceAll(string(data), "&#xA;", ""))
	if got := cases["statequake.kill-owner.check/"+harmless(nasty)]; !strings.HasPrefix(got, "failure: ") || !strings.Contains(got, "<script>") {
		t.Errorf("the nasty check reads back as %q", got)
	}
}

func TestJUnitStates(t *testing.T) {
	for name, want := range map[string]map[string]string{
		"pass": {"tests": "9", "failures": "0", "errors": "0",
			"verdict/verdict": "ok", "check/identity": "ok", "check/witness": "ok", "evidence/kill-owner": "ok", "expectation/outage_max": "ok"},
		"violation": {"failures": "4", "errors": "0",
			"verdict/verdict": "failure", "check/witness": "failure", "evidence/kill-owner": "ok", "expectation/outage_max": "failure", "expectation/lost_acks": "failure"},
		"unknown": {"failures": "0", "errors": "3",
			"verdict/verdict": "error", "check/identity": "error", "check/witness": "ok", "evidence/kill-owner": "error"},
	} {
		data, err := junit(runs(t)[name])
		if err != nil {
			t.Fatal(err)
		}
		cases, counts := readJUnit(t, data)
		for key, value := range want {
			got, ok := counts[key]
			if strings.Contains(key, "/") {
				got, ok = cases["statequake.kill-owner."+key]
				got, _, _ = strings.Cut(got, ":")
			}
			if !ok || got != value {
				t.Errorf("%s: %s is %q, want %q", name, key, got, value)
			}
		}
	}
}

var benchLine = regexp.MustCompile(`^Benchmark[A-Z0-9][^\s/]*(/[a-z]+=[^\s/=]+)+ \d+( \d+(\.\d+)? [a-z0-9/-]+)+$`)

func TestHostileBench(t *testing.T) {
	v := hostile(t)
	v.Faults[0].Name = "a b/c=d-8"
	text := string(bench(v))
	shown(t, text)
	results := 0
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if !strings.HasPrefix(line, "Benchmark") {
			continue
		}
		results++
		if !benchLine.MatchString(line) {
			t.Errorf("not a benchmark result: %s", line)
		}
	}
	if results != 6 {
		t.Errorf("%d results, want all, steady, during faults, two operations and the fault", results)
	}
	if !strings.Contains(text, "/fault=a_b_c_d_8 ") {
		t.Errorf("the fault's name is not one word:\n%s", text)
	}
}

func TestNames(t *testing.T) {
	for in, want := range map[string]string{"kill-owner": "KillOwner", "a": "A", "4-nodes": "4Nodes", "ü x": "ÜX"} {
		if got := camel(in); got != want {
			t.Errorf("camel(%q) is %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{"add": "add", "add-to-cart": "add-to-cart", "add-12": "add_12", "a/b=c d": "a_b_c_d"} {
		if got := subname(in); got != want {
			t.Errorf("subname(%q) is %q, want %q", in, got, want)
		}
	}
}

func TestWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 s", 1: "1 ns", 850: "850 ns", 4210: "4.21 µs", 999_999: "1000 µs", 4_210_000: "4.21 ms", 42_100_000: "42.1 ms",
		421_000_000: "421 ms", 932 * ms: "0.93 s", 1234 * ms: "1.23 s", 12345 * ms: "12.3 s", 125 * time.Second: "125 s", -5 * ms: "-5.00 ms",
	} {
		if got := duration(d); got != want {
			t.Errorf("duration(%d) is %q, want %q", d, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 9812: "9,812", 1234567: "1,234,567", -1000: "-1,000", -999: "-999"} {
		if got := count(n); got != want {
			t.Errorf("count(%d) is %q, want %q", n, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 64 << 20: "64 MiB", 3 << 40: "3 TiB", 5000 << 40: "5000 TiB"} {
		if got := bytesOf(n); got != want {
			t.Errorf("bytesOf(%d) is %q, want %q", n, got, want)
		}
	}
	if got, want := harmless("ok é\n\x1b\u202e\xff\ufffd"), `ok é\n\x1b\u202e\xff`+"\ufffd"; got != want {
		t.Errorf("harmless gives %q, want %q", got, want)
	}
	for in, want := range map[string]string{"runs/a-1": "runs/a-1", "a b": "'a b'", "it's": `'it'\''s'`, "": "''", "$x": "'$x'"} {
		if got := shellWord(in); got != want {
			t.Errorf("shellWord(%q) is %s, want %s", in, got, want)
		}
	}
}
