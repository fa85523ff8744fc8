//go:build e2e

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The page of a comparison draws its charts, answers to the keyboard, and asks
// for nothing.
func TestComparisonInBrowser(t *testing.T) {
	browser, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("no Chromium here; install the package chromium to check the page of a comparison")
	}
	binary, dir := build(t)
	for _, side := range []string{"base", "head"} {
		cmd := exec.Command(binary, "run", filepath.Join(dir, "shaky.yaml"), "--set", "faults=", "--set", "load.duration=2s", "--out", filepath.Join(dir, side))
		if out, err := cmd.CombinedOutput(); err != nil && code(err) != 2 { // unknown where the machine is too busy
			t.Fatalf("run: %v\n%s", err, out)
		}
	}
	page := filepath.Join(dir, "comparison.html")
	if out, err := exec.Command(binary, "compare", filepath.Join(dir, "base"), filepath.Join(dir, "head"), filepath.Join(dir, "head"), "--html", page).CombinedOutput(); err != nil {
		t.Fatalf("compare: %v\n%s", err, out)
	}
	for _, url := range requested(t, browser, page) {
		if !strings.HasPrefix(url, "data:") {
			t.Errorf("the page asked for %s", url)
		}
	}

	// What the keyboard does, played by a script that the policy of the page would
	// not let run.
	html, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	html = bytes.ReplaceAll(html, []byte("Content-Security-Policy"), []byte("X-Nothing"))
	html = bytes.Replace(html, []byte("<head>"), []byte(`<head><script>addEventListener("error", e => document.documentElement.dataset.error = e.message)</script>`), 1)
	html = bytes.Replace(html, []byte("</body>"), []byte(`<script>
const press = (id, key) => document.getElementById(id).dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
const said = {};
press("throughput", "End");
said.end = document.getElementById("live").textContent;
press("throughput", "ArrowLeft");
said.left = document.getElementById("live").textContent;
press("distribution", "Home");
said.home = document.getElementById("live").textContent;
document.querySelectorAll("#sides input")[2].click();
press("p99", "Home");
said.hidden = document.getElementById("live").textContent;
const result = document.createElement("pre");
result.id = "said";
result.textContent = JSON.stringify(said);
document.body.append(result);
</script></body>`), 1)
	played := filepath.Join(t.TempDir(), "played.html")
	if err := os.WriteFile(played, html, 0o644); err != nil {
		t.Fatal(err)
	}
	dom, err := exec.Command(browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--user-data-dir="+t.TempDir(), "--virtual-time-budget=3000", "--dump-dom", "file://"+played).Output()
	if err != nil {
		t.Fatal(err)
	}
	if m := regexp.MustCompile(`data-error="([^"]*)"`).FindSubmatch(dom); m != nil {
		t.Errorf("the script of the page failed: %s", m[1])
	}
	if n := bytes.Count(dom, []byte("<canvas")); n < 4 { // throughput, p50, p99, distribution; more if operations failed
		t.Errorf("%d charts are drawn", n)
	}
	_, said, _ := bytes.Cut(dom, []byte(`<pre id="said">`))
	said, _, _ = bytes.Cut(said, []byte("</pre>"))
	text := string(said)
	t.Logf("%s", text)
	for _, want := range []string{
		`"end":"1.9 s, base [\d,.]+/s, head [\d,.]+/s, head \(2\) [\d,.]+/s"`,
		`"left":"1.7 s, base `,
		`"home":"p50, base [\d.]+ (?:ms|µs), head `,
		fmt.Sprintf(`"hidden":"0.1 s, base %s, head %[1]s"`, `[\d.]+ (?:ms|µs|s)`),
	} {
		if !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("the keyboard says %s, which lacks %s", text, want)
		}
	}
}
