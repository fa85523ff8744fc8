package loadgen

import (
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestCountAgreesWithAt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var a Arrivals = Constant(rapid.Float64Range(1e-3, maxRate).Draw(t, "rate"))
		if rapid.Bool().Draw(t, "staggered") {
			a = staggered{rapid.Int64Range(1, 300).Draw(t, "keys"), time.Duration(rapid.Int64Range(1e6, 1e9).Draw(t, "every"))}
		}
		until := time.Duration(rapid.Int64Range(-5, int64(10*time.Hour)).Draw(t, "until"))
		if rapid.Bool().Draw(t, "on an arrival") {
			until = a.At(rapid.Int64Range(0, 1e9).Draw(t, "n"))
		}
		n := a.Count(until)
		if n > 0 && a.At(n-1) >= until {
			t.Fatalf("%v: op %d is due at %v, not before %v, but counted", a, n-1, a.At(n-1), until)
		}
		if a.At(n) < until {
			t.Fatalf("%v: op %d is due at %v, before %v, but not counted", a, n, a.At(n), until)
		}
		if a.At(n+1) < a.At(n) {
			t.Fatalf("%v: due times decrease at %d", a, n)
		}
	})
}

func TestConstant(t *testing.T) {
	if got := Constant(500).At(500); got != time.Second {
		t.Errorf("op 500 of 500/s is due at %v", got)
	}
	if got := Constant(500).Count(32 * time.Second); got != 16000 {
		t.Errorf("500/s for 32 s is %d operations", got)
	}
	if got := Constant(1e-9).At(math.MaxInt64); got != math.MaxInt64 {
		t.Errorf("out of range: %v", got)
	}
}

func TestStaggeredKeysKeepTheirPeriod(t *testing.T) {
	s := staggered{3, 20 * time.Millisecond}
	for n := int64(0); n < 30; n++ {
		if got := s.At(n+3) - s.At(n); got != 20*time.Millisecond {
			t.Fatalf("key %d waits %v between two probes", n%3, got)
		}
	}
}

func TestParseRate(t *testing.T) {
	for in, want := range map[string]float64{"500/s": 500, "30/m": 0.5, " 1.5 / h ": 1.5 / 3600, "1e3/s": 1000, "1000000/s": 1e6} {
		if got, err := ParseRate(in); err != nil || got != want {
			t.Errorf("ParseRate(%q) = %v, %v; want %v", in, got, err, want)
		}
	}
	for in, want := range map[string]string{
		"500":       "want a number per s, m or h",
		"/s":        "want a number",
		"fast/s":    "want a number",
		"5/d":       "want a number",
		"5/s/s":     "want a number",
		"0/s":       "not positive",
		"-1/s":      "not positive",
		"NaN/s":     "not positive",
		"inf/s":     "over the limit",
		"1000001/s": "over the limit of 1000000/s",
	} {
		if got, err := ParseRate(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseRate(%q) = %v, %v; want an error with %q", in, got, err, want)
		}
	}
}

func FuzzParseRate(f *testing.F) {
	f.Add("500/s")
	f.Add("1e-400/m")
	f.Fuzz(func(t *testing.T, s string) {
		if r, err := ParseRate(s); err == nil && !(r > 0 && r <= maxRate) {
			t.Fatalf("ParseRate(%q) = %v", s, r)
		}
	})
}
