package scenarios

import (
	"context"
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"statequake/history"
	"statequake/loadgen"
)

func TestAbort(t *testing.T) {
	for text, want := range map[string]Abort{
		"{}":                                 {DiskFree: 256 << 20},
		"{error_rate: 50%}":                  {ErrorRate: 50, Window: 5 * time.Second, DiskFree: 256 << 20},
		"{error_rate: 0.5%, window: 1001ms}": {ErrorRate: 0.5, Window: 1001 * time.Millisecond, DiskFree: 256 << 20},
		"{disk_free: 1GiB, duration: 2m}":    {DiskFree: 1 << 30, Duration: 2 * time.Minute},
		"{disk_free: 1GB}":                   {DiskFree: 1e9},
		"{disk_free: 0}":                     {},
		"{disk_free: 0, violation: true}":    {Violation: true},
		"{disk_free: 0, violation: false}":   {},
	} {
		s, err := Parse("f.yaml", []byte(small+"abort: "+text+"\n"), Options{})
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if s.Abort != want {
			t.Errorf("%s is %+v, want %+v", text, s.Abort, want)
		}
		resolved, err := s.Resolved(Facts{})
		if err != nil {
			t.Fatal(err)
		}
		if again, err := Parse("scenario.yaml", resolved, Options{}); err != nil || !reflect.DeepEqual(s, again) {
			t.Errorf("resolved and parsed again: %v\n got %+v\nwant %+v\n%s", err, again, s, resolved)
		}
	}
}

func TestAbortSet(t *testing.T) {
	s, err := Parse("f.yaml", []byte(small), Options{Set: []string{"abort.error_rate=20%", "abort.window=2s", "abort.duration=1m"}})
	if err != nil {
		t.Fatal(err)
	}
	if want := (Abort{ErrorRate: 20, Window: 2 * time.Second, DiskFree: 256 << 20, Duration: time.Minute}); s.Abort != want {
		t.Errorf("got %+v, want %+v", s.Abort, want)
	}
}

func TestBadAbort(t *testing.T) {
	for text, want := range map[string]string{
		"{error_rate: 0}":       "f.yaml:8: abort.error_rate: 0 is out of range (0.1% to 100%)",
		"{error_rate: 101%}":    "f.yaml:8: abort.error_rate: 101% is out of range (0.1% to 100%)",
		"{error_rate: 0.5}":     "f.yaml:8: abort.error_rate: \"0.5\" is not a number that ends in %\nhint: write 50%",
		"{window: 2s}":          "f.yaml:8: abort.window: has no effect without abort.error_rate\nhint: error_rate: 50% aborts when half of the operations of a window fail",
		"{disk_free: a lot}":    "f.yaml:8: abort.disk_free: \"a lot\" is not a size\nhint: write 256MiB",
		"{disk_free: -1}":       "f.yaml:8: abort.disk_free: \"-1\" is not a size\nhint: write 256MiB",
		"{duration: 100ms}":     "f.yaml:8: abort.duration: 100ms is out of range (1s to 24h)",
		"{error_rat: 50%}":      "f.yaml:8: abort.error_rat: unknown field\nhint: did you mean error_rate?",
		"[{error_rate: 50%}]":   "f.yaml:8: abort: expected a mapping, got a list\nhint: its fields are error_rate, window, disk_free, duration, violation",
		"{violation: yes}":      "f.yaml:8: abort.violation: unknown value \"yes\"; have true, false",
		"{disk_free: 2000TiB}":  "f.yaml:8: abort.disk_free: 2000TiB is out of range (0 to 1024TiB)",
		"{error_rate: [1, 2] }": "f.yaml:8: abort.error_rate: expected a single value, got a list",
	} {
		_, err := Parse("f.yaml", []byte(small+"abort: "+text+"\n"), Options{})
		if err == nil || err.Error() != want {
			t.Errorf("%s:\n got %v\nwant %s", text, err, want)
		}
	}
	_, err := Parse("f.yaml", []byte(small), Options{Set: []string{"abort.error_rate=half"}})
	if want := "--set abort.error_rate=half: abort.error_rate: \"half\" is not a number that ends in %\nhint: write 50%"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// load is a load of 100 operations a second, from 1 s on, as an errorRate sees it.
type load struct {
	errorRate
	t *testing.T
}

func newLoad(t *testing.T, window, timeout time.Duration) *load {
	l := &load{t: t}
	l.begin(time.Second, time.Minute, window, timeout, loadgen.Constant(100))
	return l
}

// answered records the operations due in [from, to) seconds, each after a time,
// with an outcome.
func (l *load) answered(from, to float64, after time.Duration, outcome history.Outcome) {
	arrivals := loadgen.Constant(100)
	at := func(s float64) int64 { return arrivals.Count(time.Duration(s*1e9) - l.start) }
	for n := at(from); n < at(to); n++ {
		due := l.start + arrivals.At(n)
		l.record(&history.Op{Scheduled: due, Returned: due + after, Outcome: outcome}, due+after)
	}
}

func (l *load) want(at time.Duration, percent float64) {
	l.t.Helper()
	share, ok := l.share(at)
	if !ok || share < percent/100-0.03 || share > percent/100+0.03 {
		l.t.Errorf("share at %v is %.1f %% (known: %v), want %g %%", at, 100*share, ok, percent)
	}
}

func TestErrorRate(t *testing.T) {
	const ms = time.Millisecond
	l := newLoad(t, 5*time.Second, 10*time.Second)
	l.answered(1, 10, 2*ms, history.OK)
	if share, ok := l.share(5900 * ms); ok {
		t.Errorf("share is %v before the load is one window old", share)
	}
	l.want(10*time.Second, 0)
	l.answered(10, 12.5, 2*ms, history.Fail)
	l.want(12500*ms, 50)
	l.answered(12.5, 15, 3*ms, history.Info)
	l.want(15*time.Second, 100)
	l.answered(15, 17.5, 0, history.Unsent)
	l.want(17500*ms, 100)
	l.answered(17.5, 20, 2*ms, history.OK)
	l.want(20*time.Second, 50)
	l.answered(20, 22.5, 2*ms, history.OK)
	l.want(22500*ms, 0) // the window has slid on
}

// A system that takes operations and never answers: they count when they are
// overdue, whether they are recorded then or wait on.
func TestErrorRateOpen(t *testing.T) {
	const timeout = 10 * time.Second // longer than the window
	for _, recorded := range []time.Duration{0, timeout, timeout + 3*time.Second} {
		l := newLoad(t, 5*time.Second, timeout)
		l.answered(1, 12, 2*time.Millisecond, history.OK)
		// The last answers are 5 s old; nothing was decided since then.
		if share, ok := l.share(17100 * time.Millisecond); ok {
			t.Errorf("share is %v while all operations are open within their timeout", share)
		}
		if recorded > 0 {
			l.answered(12, 27.5-recorded.Seconds(), recorded, history.Info)
		}
		l.want(27500*time.Millisecond, 100)
	}
	// One that is answered after its timeout counts as not answered, once.
	l := newLoad(t, 5*time.Second, timeout)
	l.answered(1, 8, timeout+time.Second, history.OK)
	l.answered(8, 18, 2*time.Millisecond, history.OK)
	l.want(18*time.Second, 50)
}

// When the load is over nothing more becomes due.
func TestErrorRateEnd(t *testing.T) {
	l := newLoad(t, 5*time.Second, time.Second)
	l.answered(1, 61, 2*time.Millisecond, history.OK)
	l.want(63*time.Second, 0)

	// As when a search for the highest rate ends before its time.
	l = newLoad(t, 5*time.Second, time.Second)
	l.answered(1, 30, 2*time.Millisecond, history.OK)
	l.end(30 * time.Second)
	l.want(33*time.Second, 0)
}

// A rate that falls is no error: what is due is counted by the arrival function.
func TestErrorRateOfChangingRate(t *testing.T) {
	arrivals, err := loadgen.Ramp(0, time.Minute, 1000, 1)
	if err != nil {
		t.Fatal(err)
	}
	l := &load{t: t}
	l.begin(0, time.Minute, 5*time.Second, time.Second, arrivals)
	for n := range arrivals.Count(30 * time.Second) {
		due := arrivals.At(n)
		l.record(&history.Op{Scheduled: due, Returned: due, Outcome: history.OK}, due)
	}
	l.want(30*time.Second, 0)
	// Nothing more is answered. What became overdue from 30 s to 33 s is bad, what
	// was answered from 29 s to 30 s is good.
	bad, good := arrivals.Count(33*time.Second)-arrivals.Count(30*time.Second), arrivals.Count(30*time.Second)-arrivals.Count(29*time.Second)
	l.want(34*time.Second, 100*float64(bad)/float64(bad+good))
}

// A closed loop has no arrivals.
func TestErrorRateClosed(t *testing.T) {
	var e errorRate
	e.begin(0, time.Minute, time.Second, time.Second, nil)
	e.record(&history.Op{Scheduled: time.Second, Returned: 2 * time.Second, Outcome: history.Info}, 2*time.Second)
	if share, ok := e.share(2100 * time.Millisecond); !ok || share != 1 {
		t.Errorf("share is %v, known %v", share, ok)
	}
}

func TestConditions(t *testing.T) {
	r := &run{scenario: &Scenario{}, opt: RunOptions{Dir: t.TempDir()}, began: time.Now().Add(-7200 * time.Millisecond)}
	if reason := r.condition(); reason != "" {
		t.Errorf("without conditions: %s", reason)
	}
	r.scenario.Abort = Abort{DiskFree: 1, Duration: time.Hour, ErrorRate: 50, Window: time.Second}
	if reason := r.condition(); reason != "" {
		t.Errorf("none is met: %s", reason)
	}
	r.errors.begin(0, time.Minute, time.Second, time.Minute, nil)
	for i := range 6 {
		outcome := history.Info
		if i == 0 {
			outcome = history.OK
		}
		r.errors.record(&history.Op{Scheduled: 7 * time.Second, Returned: 7 * time.Second, Outcome: outcome}, 7*time.Second)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	r.watchAbort(ctx, cancel)
	const want = "83 % of the operations of the last 1s were not answered ok, limit 50 %"
	var met *aborted
	if !errors.As(context.Cause(ctx), &met) || !strings.HasSuffix(met.reason, want) || !strings.HasPrefix(met.reason, "aborted after 7.") || r.status().Aborted != met.reason {
		t.Errorf("cause %v, want %s", context.Cause(ctx), want)
	}
	r.scenario.Abort = Abort{DiskFree: 1 << 50}
	if reason := r.condition(); !strings.HasSuffix(reason, "are free on the file system of the run directory, limit 1024TiB") {
		t.Errorf("disk: %q", reason)
	}
	r.scenario.Abort = Abort{Duration: 7 * time.Second}
	if reason := r.condition(); reason != "the run has reached its longest duration, 7s" {
		t.Errorf("duration: %q", reason)
	}
}

// A run does not begin to fill a disk that is nearly full.
func TestNoRoom(t *testing.T) {
	s, err := Parse("f.yaml", []byte(small), Options{Set: []string{"abort.disk_free=1024TiB"}})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "not", "there")
	err = Run(t.Context(), s, RunOptions{Dir: dir, Binary: "/bin/false", Tag: "0000"})
	if err == nil || !strings.Contains(err.Error(), "free on its file system, and a run is aborted below 1024TiB\nhint: make room") {
		t.Errorf("got %v", err)
	}
	if names, _ := filepath.Glob(filepath.Join(filepath.Dir(filepath.Dir(dir)), "*")); names != nil {
		t.Errorf("left behind: %v", names)
	}
}
