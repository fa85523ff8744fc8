//go:build e2e

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// tab is a page in a headless Chromium of its own, driven by the DevTools
// protocol over two pipes.
type tab struct {
	t       *testing.T
	w       *os.File
	in      chan []byte
	session string
	id      int
	wrong   []string // errors of scripts and of the policy
	end     func()
}

// close ends the browser.
func (p *tab) close() {
	if p.end != nil {
		p.end()
		p.end = nil
	}
}

// chromium finds the browser; a machine without one skips the test.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("no Chromium here; install the package chromium to check the report in a browser")
	panic("unreachable")
}

func openTab(t *testing.T) *tab {
	t.Helper()
	cmd := exec.Command(chromium(t), "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
		"--host-resolver-rules=MAP * ~NOTFOUND", "--user-data-dir="+t.TempDir(), "--remote-debugging-pipe", "about:blank")
	read, theirWrite, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	theirRead, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.ExtraFiles = []*os.File{theirRead, theirWrite} // 3 and 4
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirRead.Close()
	theirWrite.Close()
	p := &tab{t: t, w: write, in: make(chan []byte, 1000)}
	go func() {
		defer close(p.in)
		messages := bufio.NewReaderSize(read, 1<<20)
		for {
			message, err := messages.ReadBytes(0)
			if err != nil {
				return
			}
			p.in <- bytes.TrimSuffix(message, []byte{0})
		}
	}()
	p.end = func() {
		fmt.Fprintf(write, `{"id":0,"method":"Browser.close"}%c`, 0)
		killed := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
		defer killed.Stop()
		for range p.in { // up to its end
		}
		cmd.Wait()
		read.Close()
		write.Close()
	}
	t.Cleanup(p.close)
	var made struct{ TargetID, SessionID string }
	p.call("Target.createTarget", map[string]any{"url": "about:blank"}, &made)
	p.call("Target.attachToTarget", map[string]any{"targetId": made.TargetID, "flatten": true}, &made)
	p.session = made.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log"} {
		p.call(domain+".enable", nil, nil)
	}
	return p
}

// call sends a command and waits for its answer.
func (p *tab) call(method string, params, result any) {
	p.t.Helper()
	p.id++
	message := map[string]any{"id": p.id, "method": method}
	if params != nil {
		message["params"] = params
	}
	if p.session != "" {
		message["sessionId"] = p.session
	}
	data, err := json.Marshal(message)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.w.Write(append(data, 0)); err != nil {
		p.t.Fatalf("%s: %v", method, err)
	}
	p.wait(method, func(m *devMessage) bool {
		if m.ID != p.id {
			return false
		}
		if m.Error != nil {
			p.t.Fatalf("%s: %s", method, m.Error.Message)
		}
		if result != nil {
			if err := json.Unmarshal(m.Result, result); err != nil {
				p.t.Fatalf("%s: %v", method, err)
			}
		}
		return true
	})
}

// devMessage is an answer, or something that happened.
type devMessage struct {
	ID     int             `json:"id"`
	Method string          `json:"method"`
	Result json.RawMessage `json:"result"`
	Params json.RawMessage `json:"params"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// wait reads messages until done says that it was the awaited one.
func (p *tab) wait(what string, done func(*devMessage) bool) {
	p.t.Helper()
	deadline := time.After(60 * time.Second)
	for {
		select {
		case data, open := <-p.in:
			if !open {
				p.t.Fatalf("%s: the browser is gone", what)
			}
			var m devMessage
			if err := json.Unmarshal(data, &m); err != nil {
				p.t.Fatalf("%s: %v", what, err)
			}
			switch m.Method {
			case "Runtime.exceptionThrown", "Log.entryAdded":
				p.wrong = append(p.wrong, string(m.Params))
			}
			if done(&m) {
				return
			}
		case <-deadline:
			p.t.Fatalf("%s: nothing came back within a minute", what)
		}
	}
}

// open loads a file and waits for its load event.
func (p *tab) open(file string) {
	p.t.Helper()
	p.call("Page.navigate", map[string]any{"url": "file://" + file}, nil)
	p.until(`document.readyState === "complete" && location.protocol === "file:"`)
}

// eval returns what an expression is, as text.
func (p *tab) eval(expression string) string {
	p.t.Helper()
	var r struct {
		Result           struct{ Value any }
		ExceptionDetails json.RawMessage
	}
	p.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true}, &r)
	if r.ExceptionDetails != nil {
		p.t.Fatalf("%s: %s", expression, r.ExceptionDetails)
	}
	if text, ok := r.Result.Value.(string); ok {
		return text
	}
	return fmt.Sprint(r.Result.Value)
}

// until waits for a condition of the page.
func (p *tab) until(condition string) {
	p.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); p.eval("!!("+condition+")") != "true"; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("not within 20 s: %s", condition)
		}
	}
}

// press sends a key; modifiers is 8 for Shift.
func (p *tab) press(key string, modifiers int) {
	p.t.Helper()
	codes := map[string]int{"ArrowLeft": 37, "ArrowRight": 39, "Tab": 9, "Enter": 13, "+": 187, "-": 189, "0": 48}
	event := map[string]any{"key": key, "modifiers": modifiers, "windowsVirtualKeyCode": codes[key]}
	if len(key) > 1 {
		event["code"] = key
	} else {
		event["text"] = key
	}
	if key == "Enter" {
		event["text"] = "\r"
	}
	event["type"] = "keyDown"
	p.call("Input.dispatchKeyEvent", event, nil)
	event["type"] = "keyUp"
	p.call("Input.dispatchKeyEvent", event, nil)
}

// size gives the page a window of that width and height in CSS pixels.
func (p *tab) size(width, height int) {
	p.t.Helper()
	p.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false}, nil)
}

// prefers sets what the reader's system asks for.
func (p *tab) prefers(media, scheme string) {
	p.t.Helper()
	p.call("Emulation.setEmulatedMedia", map[string]any{"media": media, "features": []any{map[string]any{"name": "prefers-color-scheme", "value": scheme}}}, nil)
}

// shot writes a picture of the window.
func (p *tab) shot(file string) {
	p.t.Helper()
	var r struct{ Data []byte }
	p.call("Page.captureScreenshot", map[string]any{"format": "png"}, &r)
	if err := os.WriteFile(file, r.Data, 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// blameless fails the test if a script threw or the policy refused something.
func (p *tab) blameless() {
	p.t.Helper()
	if len(p.wrong) > 0 {
		p.t.Errorf("the browser complained:\n%s", strings.Join(p.wrong, "\n"))
	}
}
