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
	var browser string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			browser = path
			break
		}
	}
	if browser == "" {
		t.Skip("no Chromium here; install the package chromium to check what the report loads")
	}
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
