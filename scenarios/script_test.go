package scenarios

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const scripted = `
name: scripted
seed: 1
system: {name: reference, nodes: 3, ack: durable}
load:
  workload: {name: shopping-cart}
  driver: {k6: scripts/cart.js}
  duration: 5s
`

func TestScript(t *testing.T) {
	s, err := Parse("/plans/f.yaml", []byte(scripted), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if want := (Script{Path: "/plans/scripts/cart.js"}); s.Load.Driver != "k6" || s.Load.Script != want {
		t.Errorf("driver %s, script %+v, want k6 and %+v", s.Load.Driver, s.Load.Script, want)
	}
	if s.Load.Arrivals.Constant != 0 {
		t.Errorf("arrivals %+v, want none", s.Load.Arrivals)
	}
	for _, set := range [][]string{nil, {"load.arrivals={constant: 70/s}"}, {"load.driver.binary=/opt/k6"}} {
		s, err := Parse("/plans/f.yaml", []byte(scripted), Options{Set: set})
		if err != nil {
			t.Fatalf("%v: %v", set, err)
		}
		text, err := s.Resolved(Facts{})
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse("/elsewhere/scenario.yaml", text, Options{})
		if err != nil {
			t.Fatalf("%v: %v\n%s", set, err, text)
		}
		if !reflect.DeepEqual(s, again) {
			t.Errorf("%v: read back as\n%+v, want\n%+v\n%s", set, again.Load, s.Load, text)
		}
	}
}

// The program is looked for in the scenario, beside statequake, in $PATH, in this
// order, and before anything is started.
func TestFindScript(t *testing.T) {
	dir := t.TempDir()
	write := func(path string, mode os.FileMode) string {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("#!/bin/true\n"), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	t.Setenv("PATH", filepath.Join(dir, "path"))
	s := &Scenario{Load: Load{Driver: "k6", Script: Script{Path: filepath.Join(dir, "cart.js")}}}
	beside := filepath.Join(dir, "bin", "statequake")
	refused := func(want string) {
		t.Helper()
		if _, err := findScript(s, beside); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	found := func(want string) {
		t.Helper()
		got, err := findScript(s, beside)
		if err != nil || got.Binary != want {
			t.Errorf("found %q, %v, want %q", got.Binary, err, want)
		}
	}
	refused("cart.js: no such file")
	write("cart.js", 0o644)
	refused("there is no statequake-k6 beside " + beside + ", nor in $PATH\nhint: make k6 builds it")
	found(write("path/statequake-k6", 0o755))
	found(write("bin/statequake-k6", 0o755))
	s.Load.Script.Binary = filepath.Join(dir, "own", "k6")
	refused("load.driver.binary: ")
	found(write("own/k6", 0o755))

	s.Load.Driver = "http" // needs none
	if _, err := findScript(s, beside); err != nil {
		t.Error(err)
	}
}
