package reports

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/html"

	"statequake/history"
	"statequake/reports/check"
	"statequake/reports/stats"
	"statequake/reports/trace"
)

// doc is a page as a browser reads it.
type doc struct {
	root *html.Node
}

func parsePage(t *testing.T, v *Verdict) (doc, []byte) {
	t.Helper()
	data, err := renderHTML(v)
	if err != nil {
		t.Fatal(err)
	}
	root, err := html.Parse(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return doc{root}, data
}

// elements are those of that tag, or all of them.
func (d doc) elements(tag string) []*html.Node {
	var found []*html.Node
	for n := range d.root.Descendants() {
		if n.Type == html.ElementNode && (tag == "" || n.Data == tag) {
			found = append(found, n)
		}
	}
	return found
}

// byID is the element with that id.
func (d doc) byID(t *testing.T, id string) *html.Node {
	t.Helper()
	for _, n := range d.elements("") {
		if attr(n, "id") == id {
			return n
		}
	}
	t.Fatalf("the page has no element %s", id)
	panic("unreachable")
}

func attr(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

// text is what a reader sees of n, in one line.
func text(n *html.Node) string {
	var b strings.Builder
	for c := range n.Descendants() {
		if c.Type == html.TextNode && c.Parent.Data != "script" && c.Parent.Data != "style" {
			b.WriteString(c.Data + " ")
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// charts is the data that the page hands to its charts, read back.
type charts struct {
	Load  []float64 `json:"load_s"`
	Width []float64 `json:"width_s"`
	At    []float64 `json:"at_s"`
	Views []struct {
		OK   []float64  `json:"ok_per_s"`
		Info []float64  `json:"info_per_s"`
		P50  []*float64 `json:"p50_ms"`
		Max  []*float64 `json:"max_ms"`
	} `json:"views"`
	Nodes []struct {
		Name string     `json:"name"`
		CPU  []*float64 `json:"cpu_percent"`
	} `json:"nodes"`
	Faults []struct {
		Name  string     `json:"name"`
		Marks []*float64 `json:"marks_s"`
	} `json:"faults"`
}

func (d doc) charts(t *testing.T) charts {
	t.Helper()
	for _, s := range d.elements("script") {
		if attr(s, "id") != "data" {
			continue
		}
		var c charts
		if err := json.Unmarshal([]byte(s.FirstChild.Data), &c); err != nil {
			t.Fatalf("the data of the charts is no JSON: %v", err)
		}
		return c
	}
	t.Fatal("the page has no data")
	panic("unreachable")
}

// The first screen says in words what the verdict is and what it rests on.
func TestHTMLFirstScreen(t *testing.T) {
	want := map[string][]string{
		"pass": {"✓ PASS No acknowledged write was lost", "Claim killing the owner", "p99 steady 3.97 ms of 1,010 ok answers",
			"p99 during faults 0.70 s of 189 ok answers", "Outage, longest 0.79 s", "Lost acks 0", "Load generator valid send lag p99 900 µs"},
		"violation": {"✗ VIOLATION The system broke its contract: 4 acknowledged writes lost", "Lost acks ! 4", "The witness check found 5 violations of kind lost."},
		"unknown":   {"? UNKNOWN The run proves nothing", "evidence is inconclusive"},
	}
	for name, v := range runs(t) {
		page, _ := parsePage(t, v)
		got := text(page.elements("header")[0])
		for _, words := range want[name] {
			if !strings.Contains(got, words) {
				t.Errorf("%s: the first screen does not say %q:\n%s", name, words, got)
			}
		}
		class := attr(page.elements("header")[0].FirstChild.NextSibling, "class")
		if class != "verdict "+name {
			t.Errorf("%s: the class of the verdict is %q", name, class)
		}
	}

	missed := newFixture()
	missed.edit("steady.p99: 50ms", "steady.p99: 1us")
	page, _ := parsePage(t, missed.judge(t))
	if got := text(page.elements("h1")[0]); got != "! PASS, BUT MISSED" {
		t.Errorf("a pass with a missed expectation is called %q", got)
	}
}

// A violation comes with the operations that show it, in time order.
func TestHTMLViolationOperations(t *testing.T) {
	v := runs(t)["violation"]
	v.Checks[1].Violations[0].Ops = []string{"7f3a-a0", "7f3a-l1272", "7f3a-l9999"}
	page, _ := parsePage(t, v)
	details := page.byID(t, "violation-0")
	got := text(details)
	at := 0
	for _, words := range []string{"lost on counter/k0.1", "was acknowledged by n1",
		`7f3a-l1272 add {"n":1} 12.720000 s 12.720050 s`, `ok {"value":171} 171 7 n1`,
		"7f3a-a0 witness (audit)", "7f3a-l9999 not in the history"} {
		i := strings.Index(got[at:], words)
		if i < 0 {
			t.Fatalf("%q is missing, or not in its place:\n%s", words, got)
		}
		at += i
	}
}

func TestHTMLCharts(t *testing.T) {
	page, _ := parsePage(t, runs(t)["pass"])
	c := page.charts(t)
	if !slices.Equal(c.Load, []float64{1, 13}) || !slices.Equal(c.Width, []float64{0.2}) || c.At[0] != 0 || c.At[1] != 0.2 {
		t.Errorf("load %v, width %v, buckets from %v", c.Load, c.Width, c.At[:2])
	}
	// 20 operations are due in each bucket, 1300 in all; the one in flight at
	// 6.01 s is lost, and those held are answered at 6.8 s.
	all := c.Views[0]
	ok, notOK := 0.0, 0.0
	for i := range c.At {
		ok, notOK = ok+all.OK[i]*0.2, notOK+all.Info[i]*0.2
	}
	if fmt.Sprintf("%.3f %.3f", ok, notOK) != "1299.000 1.000" {
		t.Errorf("%v ok and %v not ok, want 1299 and 1", ok, notOK)
	}
	if all.OK[10] != 100 || all.OK[31] >= 100 || all.OK[34] <= 100 || all.Info[30] != 5 {
		t.Errorf("per second ok %v, %v, %v, not ok %v", all.OK[10], all.OK[31], all.OK[34], all.Info[30])
	}
	if *all.Max[10] > 5 || *all.Max[30] < 500 || *all.P50[30] > 5 {
		t.Errorf("latencies %v, %v, %v", *all.Max[10], *all.Max[30], *all.P50[30])
	}
	names := ""
	for _, n := range c.Nodes {
		names += n.Name + " "
	}
	if names != "n1 n2 n3 load generator " {
		t.Errorf("lines for %s", names)
	}
	// n2 is another process from the sample at 8 s on: a gap, then its first one.
	if n2 := c.Nodes[1].CPU; n2[0] != nil || *n2[7] != 20 || n2[8] != nil || n2[9] != nil || *n2[10] != 20 {
		t.Errorf("CPU of n2 is %v", n2)
	}
	marks := ""
	for _, m := range c.Faults[0].Marks {
		marks += fmt.Sprintf("%.3f ", *m)
	}
	if c.Faults[0].Name != "kill-owner" || marks != "6.000 6.011 7.900 6.811 " {
		t.Errorf("fault %s at %s", c.Faults[0].Name, marks)
	}
}

// However long the run is and whatever it recorded, the charts stay small.
func TestTimelineIsBounded(t *testing.T) {
	run := &history.Run{}
	for i := range 50_000 {
		at := time.Duration(i) * time.Second
		run.Ops = append(run.Ops, history.Op{Phase: history.Load, Scheduled: at, Returned: at + ms, Outcome: history.OK})
		run.Samples = append(run.Samples, history.Sample{At: at, Node: fmt.Sprint("n", i%20), PID: 1, RSS: 1 << 20, CPU: float64(i)})
		run.Samples = append(run.Samples, history.Sample{At: at, Node: stats.GeneratorNode, PID: 1, RSS: int64(i) << 20})
	}
	for _, anchor := range []time.Duration{0, 20_000 * time.Second} {
		tl := newTimeline(&Verdict{run: trace.Of(run), Load: Load{Start: anchor, Duration: 50_000*time.Second - anchor}})
		ok := 0.0
		for _, v := range tl.Views[0].OK {
			ok += v * tl.Width[0]
		}
		if len(tl.At) > maxBuckets || len(tl.At) < maxBuckets/3 || len(tl.Views[0].Max) != len(tl.At) || int(ok+0.5) != 50_000 {
			t.Errorf("%d buckets with %v operations", len(tl.At), ok)
		}
		if tl.Nodes[len(tl.Nodes)-1].Name != "load generator" || len(tl.Nodes) != maxNodes+1 || tl.Hidden != 12 {
			t.Errorf("%d lines, %d hidden", len(tl.Nodes), tl.Hidden)
		}
		if g := tl.Nodes[maxNodes]; len(g.At) > maxBuckets || g.RSS[len(g.RSS)-1] != 49_999 {
			t.Errorf("%d points up to %v", len(g.At), g.RSS[len(g.RSS)-1])
		}
	}
}

// A violation is drawn, and the drawing says the same to those who do not see it.
func TestHTMLDrawing(t *testing.T) {
	f := newFixture()
	f.lose(30)
	v := f.judge(t)
	page, _ := parsePage(t, v)
	ids := map[string]string{}
	for _, n := range page.elements("") {
		if id := attr(n, "id"); id != "" {
			if _, twice := ids[id]; twice {
				t.Errorf("two elements are called %s", id)
			}
			ids[id] = text(n)
		}
	}
	drawn := 0
	for _, n := range page.elements("svg") {
		if attr(n, "role") != "img" {
			continue
		}
		drawn++
		words := ""
		for id := range strings.FieldsSeq(attr(n, "aria-labelledby")) {
			words += ids[id] + " "
		}
		shown := text(doc{n.Parent}.elements("ol")[0])
		if !strings.HasPrefix(words, "lost on counter/k0.1 ") || !strings.Contains(words, shown) || !strings.Contains(shown, "What was acknowledged is gone.") {
			t.Errorf("the drawing says %q, the text beside it %q", words, shown)
		}
		shapes := map[string]int{}
		for _, e := range (doc{n}).elements("") {
			shapes[attr(e, "class")]++
		}
		if shapes["bar suspect"] != 1 || shapes["cross"] != 1 || shapes["auditmark"] != 1 || shapes["bar"] != 1 {
			t.Errorf("the drawing is made of %v", shapes)
		}
	}
	if want := len(v.Checks[1].Violations); drawn != want || want == 0 {
		t.Errorf("%d violations are drawn, want %d", drawn, want)
	}
}

// Runs with hardly anything in them have a page too.
func TestHTMLOfLittle(t *testing.T) {
	noOK := newFixture()
	for i := range noOK.ops {
		op := &noOK.ops[i]
		op.Outcome, op.Result, op.Version, op.Digest, op.Error = history.Info, nil, -1, "", "no answer"
	}
	empty := newFixture()
	empty.ops, empty.faults, empty.samples, empty.footer = nil, nil, nil, nil
	torn := newFixture()
	torn.ops, torn.footer = torn.ops[:600], nil
	second := newFixture()
	second.ops = slices.DeleteFunc(second.ops, func(op history.Op) bool { return op.Scheduled >= time.Second })
	second.faults, second.footer.Scheduled[history.Load] = nil, 0
	for name, f := range map[string]*fixture{"no ok": noOK, "empty": empty, "torn": torn, "one second": second} {
		v := f.judge(t)
		page, _ := parsePage(t, v)
		page.charts(t)
		if got := text(page.elements("h1")[0]); v.Verdict != check.Unknown || got != "? UNKNOWN" {
			t.Errorf("%s: %s is shown as %q", name, v.Verdict, got)
		}
	}
}

// excerptFolder is what the page links to: it lies beside the page.
var excerptFolder = regexp.MustCompile(`^violations/[a-z-]+-[0-9]+/$`)

// The page asks nobody for anything, and its policy lets nothing else run.
func TestHTMLIsOffline(t *testing.T) {
	page, data := parsePage(t, runs(t)["violation"])
	policy := ""
	for _, n := range page.elements("") {
		if attr(n, "http-equiv") == "Content-Security-Policy" {
			policy = attr(n, "content")
		}
		for _, a := range n.Attr {
			switch {
			case a.Key == "src" || a.Key == "style" || strings.HasPrefix(a.Key, "on"),
				a.Key == "href" && !strings.HasPrefix(a.Val, "data:") && !strings.HasPrefix(a.Val, "#") && !excerptFolder.MatchString(a.Val):
				t.Errorf("<%s %s=%q>", n.Data, a.Key, a.Val)
			}
		}
	}
	if !strings.HasPrefix(policy, "default-src 'none';") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "http") {
		t.Errorf("the policy is %q", policy)
	}
	for _, tag := range []string{"script", "style"} {
		for _, n := range page.elements(tag) {
			if attr(n, "type") != "application/json" && !strings.Contains(policy, "'"+fingerprint(n.FirstChild.Data)+"'") {
				t.Errorf("the policy forbids the page's own %s", tag)
			}
		}
	}
	if !bytes.Contains(data, []byte("Permission is hereby granted")) {
		t.Error("uPlot comes without its licence")
	}
	for _, fetch := range []string{"fetch(", "XMLHttpRequest", "WebSocket", "import(", "sendBeacon", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "localStorage", "@import", "url("} {
		if strings.Contains(script+style, fetch) {
			t.Errorf("the page uses %s", fetch)
		}
	}
	if empty, _ := renderHTML((&fixture{scenario: newFixture().scenario}).judge(t)); len(empty) > 300<<10 {
		t.Errorf("the page without data has %d bytes, limit 300 KiB", len(empty))
	}
}

// skeleton lists the elements of a page with their attributes, without what is
// repeated per row.
func skeleton(page doc) string {
	var b strings.Builder
	for _, n := range page.elements("") {
		b.WriteString(n.Data)
		for _, a := range n.Attr {
			b.WriteString(" " + a.Key)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// What a hostile system says is text, not markup, and there is a limit to it.
func TestHostileHTML(t *testing.T) {
	for _, evil := range []string{
		nasty,
		"</script><script>alert(1)</script>", "</style><img src=x onerror=alert(1)>", "\"><svg onload=alert(1)>", "' onmouseover='alert(1)",
		"<!--", "-->", "]]>", "\u2028\u2029\u0000\x1b[2J", "{{.}}${alert(1)}`",
		strings.Repeat("<b>", 10<<20/3),
	} {
		shape := ""
		for _, said := range []string{"harmless", evil} {
			f := newFixture()
			f.lose(4)
			v := f.judge(t)
			fault := &v.Faults[0]
			fault.Name, fault.Kind, fault.Action, fault.Targets, fault.Roles = said, said, said, []string{said}, map[string]string{said: said}
			fault.Evidence.Detail = said
			for i := range v.run.Samples {
				if v.run.Samples[i].Node == "n3" {
					v.run.Samples[i].Node = said
				}
			}
			v.Resources[said] = v.Resources["n3"]
			v.Scenario, v.Claim, v.plan, v.System.Version, v.System.URL, v.Isolation, v.Machine.Kernel = said, said, said, said, said, said, said
			v.Reasons = append(v.Reasons, said)
			v.Expectations = append(v.Expectations, Expectation{Name: said, Limit: said, Measured: &said})
			v.Latency.ByOp[said] = v.Latency.All
			quoted, _ := json.Marshal(said)
			v.evidence.Faults = append(v.evidence.Faults, history.Fault{Name: said, Kind: said, Action: said, Event: history.Injected, Targets: []string{said}})
			v.evidence.Ops = append(v.evidence.Ops, history.Op{ID: said, Phase: history.Load, Entity: said, Key: said, Name: said, Args: quoted,
				Scheduled: 2 * time.Second, Outcome: history.OK, Result: quoted, Digest: said, Error: said, Node: said, Via: said})
			v.run.Ops.Add(&v.evidence.Ops[len(v.evidence.Ops)-1])
			v.Checks = append(v.Checks, check.Result{Name: said, Verdict: check.Violated, Total: 1, Kinds: map[string]int{said: 1}, Reasons: []string{said},
				Violations: []check.Violation{{Entity: said, Key: said, Kind: said, Ops: []string{said, said + "?"}, Explanation: said}}})
			page, data := parsePage(t, v)
			page.charts(t)
			if got := skeleton(page); shape == "" {
				shape = got
			} else if got != shape {
				t.Errorf("%.40q changes the page", evil)
			}
			if len(data) > 300<<10 {
				t.Errorf("%.40q makes a page of %d bytes, limit 300 KiB", evil, len(data))
			}
			if said != "harmless" && len(evil) < 1000 && !strings.Contains(strings.ReplaceAll(text(page.root), "\u00a0", " "), strings.Join(strings.Fields(harmless(evil)), " ")) {
				t.Errorf("%q is not shown", evil)
			}
			if !utf8.Valid(data) {
				t.Errorf("%.40q makes invalid UTF-8", evil)
			}
			for _, r := range string(data) {
				if r != '\n' && r != '\u00a0' && !unicode.IsPrint(r) {
					t.Errorf("%.40q: the character %U got through", evil, r)
					break
				}
			}
		}
	}
}

// Links within the page lead somewhere, what describes a chart is there and
// says figures, and headings do not skip a level.
func TestHTMLForEveryReader(t *testing.T) {
	for name, v := range runs(t) {
		page, _ := parsePage(t, v)
		ids := map[string]*html.Node{}
		for _, n := range page.elements("") {
			if id := attr(n, "id"); id != "" {
				ids[id] = n
			}
		}
		charts, level := 0, 0
		for _, n := range page.elements("") {
			if to, ok := strings.CutPrefix(attr(n, "href"), "#"); ok && ids[to] == nil {
				t.Errorf("%s: a link to #%s leads nowhere", name, to)
			}
			for _, key := range []string{"aria-labelledby", "aria-describedby", "for"} {
				for id := range strings.FieldsSeq(attr(n, key)) {
					if ids[id] == nil || strings.TrimSpace(text(ids[id])) == "" {
						t.Errorf("%s: <%s> is named by #%s, which says nothing", name, n.Data, id)
					}
				}
			}
			if attr(n, "class") == "chart" {
				charts++
				if says := text(ids[attr(n, "aria-describedby")]); !strings.HasSuffix(says, ".") || !strings.ContainsAny(says, "0123456789") && !strings.Contains(says, "unknown") {
					t.Errorf("%s: the chart %s says %q", name, attr(n, "id"), says)
				}
			}
			if len(n.Data) == 2 && n.Data[0] == 'h' && n.Data[1] >= '1' && n.Data[1] <= '6' {
				if now := int(n.Data[1] - '0'); now > level+1 {
					t.Errorf("%s: a heading %s %q comes after a heading of level %d", name, n.Data, text(n), level)
				} else {
					level = now
				}
			}
			if n.Data == "table" && attr(n, "aria-label") == "" {
				t.Errorf("%s: a table has no name", name)
			}
			if n.Data == "th" && text(n) == "" {
				t.Errorf("%s: a column or row has no name", name)
			}
		}
		if charts != 9 {
			t.Errorf("%s: %d charts, want 9", name, charts)
		}
		for _, tag := range []string{"header", "nav", "main", "h1"} {
			if n := len(page.elements(tag)); n != 1 {
				t.Errorf("%s: %d <%s>", name, n, tag)
			}
		}
	}
}

// What the charts show is said, too.
func TestHTMLSentences(t *testing.T) {
	page, _ := parsePage(t, runs(t)["pass"])
	for id, want := range map[string]string{
		"events":       "kill-owner from 6.011 s to 7.900 s, steady again at 6.811 s.",
		"throughput":   "99.9/s over the load of 12.0 s;",
		"errors":       "0 fail, 1 info and 0 unsent of the 1,200 operations of the load.",
		"latency":      "Steady p50 3.01 ms,",
		"cpu":          "n1 2.8 s in all; n2",
		"rss":          "n1 at most 74 MiB; n2",
		"in-flight":    "At most 27 operations due and not yet returned",
		"keys":         "7 keys; 3 out, longest",
		"distribution": "One in a hundred ok answers took 3.97 ms or more while steady (of 1,010) and 0.70 s or more during faults (of 189).",
	} {
		if got := text(page.byID(t, id+"-says")); !strings.HasPrefix(got, want) {
			t.Errorf("%s says %q, want %q", id, got, want)
		}
	}
}

// colorVariable is a custom property with a colour for the light and one for the
// dark theme, or one for both.
var colorVariable = regexp.MustCompile(`--([a-z0-9]+): (?:light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)|(#[0-9a-f]{6}));`)

// luminance is that of WCAG 2.2.
func luminance(t *testing.T, color string) float64 {
	t.Helper()
	n, err := strconv.ParseUint(color[1:], 16, 32)
	if err != nil {
		t.Fatal(err)
	}
	channel := func(shift uint) float64 {
		c := float64(n>>shift&0xff) / 255
		if c <= 0.04045 {
			return c / 12.92
		}
		return math.Pow((c+0.055)/1.055, 2.4)
	}
	return 0.2126*channel(16) + 0.7152*channel(8) + 0.0722*channel(0)
}

// Text has a contrast of at least 4.5:1 and a line of a chart one of 3:1, in both
// themes (WCAG 2.2, 1.4.3 and 1.4.11).
func TestHTMLContrast(t *testing.T) {
	colors := map[string][2]string{}
	for _, m := range colorVariable.FindAllStringSubmatch(pageStyle, -1) {
		colors[m[1]] = [2]string{m[2] + m[4], m[3] + m[4]}
	}
	grounds := map[string][]string{ // of each colour of text
		"ink": {"page", "card"}, "soft": {"page", "card"}, "bad": {"page", "card"}, "good": {"card"}, "link": {"page", "card"},
		"on": {"pass", "missed", "unknown", "violation"},
	}
	lines := map[string][]string{"fault": {"card"}, "op": {"card"}}
	for i := range 9 {
		lines[fmt.Sprint("c", i)] = []string{"card"}
	}
	contrast := func(theme int, name, ground string) float64 {
		for _, n := range []string{name, ground} {
			if colors[n][theme] == "" {
				t.Fatalf("the style has no colour --%s", n)
			}
		}
		a, b := luminance(t, colors[name][theme]), luminance(t, colors[ground][theme])
		return (max(a, b) + 0.05) / (min(a, b) + 0.05)
	}
	for theme, called := range []string{"light", "dark"} {
		for least, pairs := range map[float64]map[string][]string{4.5: grounds, 3: lines} {
			for name, on := range pairs {
				for _, ground := range on {
					if c := contrast(theme, name, ground); c < least {
						t.Errorf("%s: --%s on --%s has a contrast of %.2f, least %v", called, name, ground, c, least)
					}
				}
			}
		}
	}
	// No text has a colour that is not judged above.
	for _, m := range regexp.MustCompile(`[{;]\s*(?:color|fill): ?([^;}]+)`).FindAllStringSubmatch(pageStyle, -1) {
		name, ok := strings.CutPrefix(strings.TrimSuffix(m[1], ")"), "var(--")
		shape := m[1] == "none" || name == "grid" || name == "card" || name == "op" // of drawings
		if _, judged := grounds[name]; !shape && (!ok || !judged) {
			t.Errorf("text has the colour %s, which no contrast is known of", m[1])
		}
	}
}
