//go:build e2e

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// requested opens a page in headless Chromium and returns the addresses that the
// page asked for. What the browser asks for by itself is left out, and reaches
// nobody: no name can be resolved.
func requested(t *testing.T, browser, page string) []string {
	t.Helper()
	log := filepath.Join(t.TempDir(), "net.json")
	cmd := exec.Command(browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
		"--host-resolver-rules=MAP * ~NOTFOUND",
		"--user-data-dir="+t.TempDir(), "--virtual-time-budget=3000", "--log-net-log="+log, "--dump-dom", "file://"+page)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	dom, err := cmd.Output()
	if err != nil {
		t.Fatalf("open %s: %v\n%s", page, err, &stderr)
	}
	if !bytes.Contains(dom, []byte("</html>")) {
		t.Fatalf("open %s: no page came back: %.200q", page, dom)
	}
	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	var net struct {
		Constants struct {
			LogEventTypes map[string]int `json:"logEventTypes"`
		} `json:"constants"`
		Events []struct {
			Type   int `json:"type"`
			Params struct {
				URL       string `json:"url"`
				Initiator string `json:"initiator"` // the origin of the page; the browser itself has none
			} `json:"params"`
		} `json:"events"`
	}
	if err := json.Unmarshal(data, &net); err != nil {
		t.Fatalf("net log: %v", err)
	}
	start, ok := net.Constants.LogEventTypes["URL_REQUEST_START_JOB"]
	if !ok {
		t.Fatal("net log: it does not know URL_REQUEST_START_JOB")
	}
	var urls []string
	for _, e := range net.Events {
		if e.Type == start && e.Params.URL != "" && e.Params.Initiator != "not an origin" {
			urls = append(urls, e.Params.URL)
		}
	}
	return urls
}

// The report is one file: nothing of it is fetched from anywhere, and what a
// system under test said cannot change that.
func TestReportAsksForNothing(t *testing.T) {
	browser := chromium(t)
	binary, dir := build(t)
	run := filepath.Join(dir, "run")
	cmd := exec.Command(binary, "run", filepath.Join(dir, "shaky.yaml"), "--set", "faults=", "--set", "load.duration=2s", "--out", run)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("run: %v\n%s", err, out)
	}
	report := filepath.Join(run, "report.html")
	for _, url := range requested(t, browser, report) {
		if !strings.HasPrefix(url, "data:") {
			t.Errorf("the report asked for %s", url)
		}
	}

	// What the check would see if the report did ask, and what its policy makes
	// of a page that was smuggled in.
	html, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	const image = "http://127.0.0.1:9/pixel.png"
	smuggled := bytes.Replace(html, []byte("</body>"), fmt.Appendf(nil, `<img src=%q></body>`, image), 1)
	if bytes.Equal(smuggled, html) {
		t.Fatal("the report has no </body>")
	}
	for _, c := range []struct {
		name string
		page []byte
		want bool
	}{
		{"with its policy", smuggled, false},
		{"without it", bytes.ReplaceAll(smuggled, []byte("Content-Security-Policy"), []byte("X-Nothing")), true},
	} {
		page := filepath.Join(t.TempDir(), "page.html")
		if err := os.WriteFile(page, c.page, 0o644); err != nil {
			t.Fatal(err)
		}
		if urls := requested(t, browser, page); slices.Contains(urls, image) != c.want {
			t.Errorf("a foreign image %s: asked for %v, want %v: %v", c.name, !c.want, c.want, urls)
		}
	}
}

// reportOf returns the page of STATEQUAKE_REPORT, or else that of a run that
// finds a planted bug.
func reportOf(t *testing.T) string {
	t.Helper()
	chromium(t)
	if file := os.Getenv("STATEQUAKE_REPORT"); file != "" {
		return file
	}
	binary, dir := build(t)
	run := filepath.Join(dir, "run")
	cmd := exec.Command(binary, "run", "bugs/ack-before-journal", "--out", run)
	if out, err := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 1 {
		t.Fatalf("run: %v\n%s", err, out)
	}
	return filepath.Join(run, "report.html")
}

// The report is used with a keyboard, on a small screen, in both themes, on paper
// and without scripts.
func TestReportInBrowser(t *testing.T) {
	report := reportOf(t)
	p := openTab(t)
	p.size(1280, 800)
	p.open(report)
	p.until(`performance.getEntriesByName("charts").length`)
	part := func(name string, check func(t *testing.T)) {
		t.Run(name, func(t *testing.T) {
			whole := p.t
			p.t = t
			defer func() { p.t = whole }()
			check(t)
		})
	}
	equal := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}

	part("first screen", func(t *testing.T) {
		equal("parts of it below the fold", p.eval(`[...document.querySelectorAll(".verdict, .claim, .tiles, .why")].filter(e => e.getBoundingClientRect().bottom > 800).map(e => e.className).join()`), "")
	})
	part("charts", func(t *testing.T) {
		equal("charts without a picture", p.eval(`[...document.querySelectorAll(".chart")].filter(e => !e.querySelector("canvas") && !e.querySelector(".none")).map(e => e.id).join()`), "")
		equal("most charts are drawn", p.eval(`document.querySelectorAll(".chart canvas").length >= 7`), "true")
		equal("left edges of the time axis", p.eval(`new Set([...document.querySelectorAll("#time .u-over")].map(e => e.getBoundingClientRect().left)).size`), "1")
	})
	shown := func() string { return p.eval(`document.getElementById("shown").textContent`) }
	part("filters", func(t *testing.T) {
		p.until(`document.getElementById("shown").textContent.startsWith("All operations, ")`)
		p.eval(`document.getElementById("op").selectedIndex = 1; document.getElementById("op").dispatchEvent(new Event("change"))`)
		first := p.eval(`document.getElementById("op").value`)
		p.until(fmt.Sprintf(`document.getElementById("shown").textContent.startsWith(%q)`, first))
		equal("choices that were not kept and can be chosen", p.eval(`[...document.querySelectorAll("#op option, #node option")].filter(o => o.disabled !== o.textContent.includes("not kept")).length`), "0")
		p.eval(`document.getElementById("op").selectedIndex = 0; document.getElementById("op").dispatchEvent(new Event("change"))`)
		p.until(`document.getElementById("shown").textContent.startsWith("All operations, ")`)
	})
	part("keyboard", func(t *testing.T) {
		p.eval(`document.getElementById("cursor").focus()`)
		said := p.eval(`document.getElementById("cursor").getAttribute("aria-valuetext")`)
		p.press("ArrowRight", 0)
		p.until(fmt.Sprintf(`document.getElementById("cursor").getAttribute("aria-valuetext") !== %q`, said))
		if said := p.eval(`document.getElementById("cursor").getAttribute("aria-valuetext")`); !strings.Contains(said, " s, ") || !strings.Contains(said, "ok/s ") {
			t.Errorf("the cursor says %q", said)
		}
		p.until(`document.getElementById("shown").textContent.includes("Shown: 0.00 s")`)
		whole := shown()
		p.press("+", 0)
		p.until(fmt.Sprintf(`document.getElementById("shown").textContent !== %q`, whole))
		zoomed := shown()
		p.press("ArrowRight", 8)
		p.until(fmt.Sprintf(`document.getElementById("shown").textContent !== %q`, zoomed))
		p.press("0", 0)
		p.until(fmt.Sprintf(`document.getElementById("shown").textContent === %q`, whole))
	})
	part("drag", func(t *testing.T) {
		whole := shown()
		p.eval(`document.getElementById("throughput").scrollIntoView({ block: "center", behavior: "instant" })`)
		var x, y float64
		fmt.Sscan(p.eval(`(r => (r.left + r.width / 4) + " " + (r.top + r.height / 2))(document.querySelector("#throughput .u-over").getBoundingClientRect())`), &x, &y)
		mouse := func(kind string, x float64, buttons int) {
			p.call("Input.dispatchMouseEvent", map[string]any{"type": kind, "x": x, "y": y, "button": "left", "buttons": buttons, "clickCount": 1}, nil)
		}
		mouse("mouseMoved", x, 0)
		mouse("mousePressed", x, 1)
		mouse("mouseMoved", x+100, 1)
		mouse("mouseMoved", x+200, 1)
		mouse("mouseReleased", x+200, 0)
		p.until(fmt.Sprintf(`document.getElementById("shown").textContent !== %q`, whole))
		equal("values are read out at the mouse", p.eval(`[...document.querySelectorAll("#time .legend b")].filter(e => e.textContent).length >= 7`), "true")
		p.eval(`document.getElementById("whole").click()`)
		p.until(fmt.Sprintf(`document.getElementById("shown").textContent === %q`, whole))
	})
	part("table", func(t *testing.T) {
		p.eval(`document.getElementById("figures").open = true`)
		p.until(`document.querySelectorAll("#figures-table tbody tr").length > 10`)
		p.eval(`document.getElementById("figures").open = false`)
	})
	part("violations", func(t *testing.T) {
		id := p.eval(`(document.querySelector(".marks a") || { hash: "" }).hash.slice(1)`)
		if id == "" {
			if p.eval(`!!document.getElementById("violations")`) == "true" {
				t.Error("no violation is marked")
			}
			return
		}
		p.eval(fmt.Sprintf(`document.getElementById(%q).open = false; document.querySelector(".marks a").click()`, id))
		p.until(fmt.Sprintf(`document.getElementById(%q).open`, id))
	})
	part("small screen", func(t *testing.T) {
		for _, width := range []int{390, 320} {
			p.size(width, 844)
			p.until(fmt.Sprintf(`innerWidth === %d && [...document.querySelectorAll(".uplot")].every(u => u.getBoundingClientRect().right <= %d)`, width, width))
			equal(fmt.Sprintf("at %d px, width of the page", width), p.eval(`document.documentElement.scrollWidth`), fmt.Sprint(width))
		}
		// WCAG 2.2, 2.5.8; links in a text are exempt.
		equal("small targets", p.eval(`[...document.querySelectorAll("button, select, input, summary, nav a, .marks a")].filter(e => e.checkVisibility() && (r => r.height < 24 || r.width < 24)(e.getBoundingClientRect())).map(e => e.id || e.textContent).join()`), "")
		p.size(1280, 800)
	})
	part("themes", func(t *testing.T) {
		ground := func() string { return p.eval(`getComputedStyle(document.body).backgroundColor`) }
		p.prefers("", "light")
		light := ground()
		p.prefers("", "dark")
		dark := ground()
		if light == dark {
			t.Errorf("the page is %s in both themes", light)
		}
		p.eval(`document.getElementById("theme").click()`)
		equal("the switch, ground", ground(), light)
		p.eval(`document.getElementById("theme").click()`)
		p.prefers("print", "dark")
		equal("on paper, ink", p.eval(`getComputedStyle(document.body).color`), "rgb(22, 25, 29)")
		p.prefers("", "light")
	})
	part("reader", func(t *testing.T) {
		var tree struct {
			Nodes []struct {
				Ignored    bool
				Role, Name struct{ Value any }
			}
		}
		p.call("Accessibility.getFullAXTree", nil, &tree)
		seen := map[string]int{}
		for _, n := range tree.Nodes {
			role := fmt.Sprint(n.Role.Value)
			seen[role]++
			switch role {
			case "image", "button", "link", "combobox", "slider", "table", "region", "heading":
				if !n.Ignored && (n.Name.Value == nil || n.Name.Value == "") {
					t.Errorf("a %s has no name", role)
				}
			}
		}
		for _, role := range []string{"main", "navigation", "banner", "image", "slider", "combobox", "status"} {
			if seen[role] == 0 {
				t.Errorf("the page has no %s", role)
			}
		}
	})
	part("paper", func(t *testing.T) {
		var r struct{ Data []byte }
		p.call("Page.printToPDF", map[string]any{"printBackground": false, "paperWidth": 8.27, "paperHeight": 11.69}, &r)
		if !bytes.HasPrefix(r.Data, []byte("%PDF")) {
			t.Error("no PDF came back")
		}
		if file := os.Getenv("STATEQUAKE_PDF"); file != "" {
			if err := os.WriteFile(file, r.Data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	})
	p.blameless()

	part("no scripts", func(t *testing.T) {
		p.call("Emulation.setScriptExecutionDisabled", map[string]any{"value": true}, nil)
		p.open(report)
		equal("controls that do nothing", p.eval(`[...document.querySelectorAll("button, select, input, #figures")].filter(e => e.checkVisibility()).map(e => e.id).join()`), "")
		equal("a word on the charts", p.eval(`document.querySelector("noscript").checkVisibility()`), "true")
	})
}

// TestReportPictures writes pictures of the report of STATEQUAKE_REPORT into the
// folder STATEQUAKE_PICTURES, for people to look at.
func TestReportPictures(t *testing.T) {
	folder := os.Getenv("STATEQUAKE_PICTURES")
	if folder == "" {
		t.Skip("STATEQUAKE_PICTURES is not set")
	}
	report := reportOf(t)
	for _, theme := range []string{"light", "dark"} {
		for _, width := range []int{1280, 390} {
			p := openTab(t)
			p.prefers("", theme)
			p.size(width, 800)
			p.open(report)
			p.until(`performance.getEntriesByName("charts").length`)
			p.shot(filepath.Join(folder, fmt.Sprintf("%d-%s-first.png", width, theme)))
			var height int
			fmt.Sscan(p.eval(`document.documentElement.scrollHeight`), &height)
			p.size(width, min(height, 8000))
			p.until(fmt.Sprintf(`innerHeight === %d`, min(height, 8000)))
			p.shot(filepath.Join(folder, fmt.Sprintf("%d-%s.png", width, theme)))
			if width == 1280 && theme == "light" { // the picture of the README
				var end int
				fmt.Sscan(p.eval(`Math.ceil(document.getElementById("latency-panel").getBoundingClientRect().bottom) + 10`), &end)
				p.size(width, end)
				p.until(fmt.Sprintf(`innerHeight === %d`, end))
				p.shot(filepath.Join(folder, "report.png"))
			}
			p.close()
		}
	}
}

// TestReportPaint measures how soon a report is seen, and how soon its charts
// are: STATEQUAKE_REPORT names it, STATEQUAKE_TIMES says how often it is opened,
// each time by a new browser.
func TestReportPaint(t *testing.T) {
	report, times := reportOf(t), 3
	if text := os.Getenv("STATEQUAKE_TIMES"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			t.Fatalf("STATEQUAKE_TIMES: %q is not a number of times", text)
		}
		times = n
	}
	var paint, charts []float64
	for range times {
		p := openTab(t)
		p.size(1280, 800)
		p.open(report)
		p.until(`performance.getEntriesByName("charts").length && performance.getEntriesByName("first-contentful-paint").length`)
		for name, list := range map[string]*[]float64{"first-contentful-paint": &paint, "charts": &charts} {
			var at float64
			fmt.Sscan(p.eval(fmt.Sprintf(`performance.getEntriesByName(%q)[0].startTime`, name)), &at)
			*list = append(*list, at)
		}
		p.close()
	}
	info, err := os.Stat(report)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(paint)
	slices.Sort(charts)
	t.Logf("report of %d bytes, opened %d times, ms from the navigation, median (least to most): first paint %.0f (%.0f to %.0f), charts drawn %.0f (%.0f to %.0f)",
		info.Size(), times, paint[times/2], paint[0], paint[times-1], charts[times/2], charts[0], charts[times-1])
	if paint[times/2] > 1000 {
		t.Errorf("the first paint takes %.0f ms, at most 1000", paint[times/2])
	}
	if paint[0] <= 0 {
		t.Errorf("a first paint after %v ms", paint[0])
	}
}
