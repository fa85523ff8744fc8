package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"statequake/history"
	"statequake/loadgen"
	"statequake/reports"
	"statequake/reports/stats"
)

const (
	tallyShards = 8
	errorKinds  = 100 // told apart in a shard
	topErrors   = 10  // in the result
	otherErrors = "other errors"
)

// tally counts what became of the requests of one load, and is its Codec.
type tally struct {
	*loadgen.Fixed
	from, to time.Duration // the measured part, on the run clock
	answers  []answer      // by client, each its own
	shards   [tallyShards]tallyShard
}

// answer is what a client got last, from Response until record.
type answer struct {
	status int
	bytes  int64
	_      [48]byte // of another cache line than the next one
}

// tallyShard counts for some of the clients, so that they do not wait for each
// other.
type tallyShard struct {
	mu       sync.Mutex
	status   [1000]int64 // by status, which has three digits
	bytes    int64
	counts   history.Counts
	sent, ok int64 // within the measured part
	latency  *stats.Recorder
	errors   map[string]int64
	_        [64]byte // of another cache line than the next one
}

func newTally(request *loadgen.Fixed, clients int) *tally {
	t := &tally{Fixed: request, answers: make([]answer, clients)}
	for i := range t.shards {
		t.shards[i].latency, t.shards[i].errors = stats.NewRecorder(), map[string]int64{}
	}
	return t
}

func (t *tally) shard(op *history.Op) *tallyShard { return &t.shards[op.Client%tallyShards] }

// Response notes an answer.
func (t *tally) Response(op *history.Op, status int, body []byte) {
	t.Fixed.Response(op, status, body)
	t.answers[op.Client] = answer{status: status, bytes: int64(len(body))}
}

// record counts a request that is complete.
func (t *tally) record(op *history.Op) {
	var got answer
	if op.Outcome != history.Unsent { // it was that client who sent it
		got = t.answers[op.Client]
		t.answers[op.Client] = answer{}
	}
	if op.Phase != history.Load {
		return
	}
	s := t.shard(op)
	s.mu.Lock()
	defer s.mu.Unlock()
	if got.status > 0 {
		s.status[got.status]++
		s.bytes += got.bytes
	}
	s.counts.Add(op.Outcome)
	if op.Outcome != history.Unsent && op.Sent < t.to {
		s.sent++
	}
	if op.Outcome == history.OK {
		s.latency.Record(op.Latency())
		if op.Returned < t.to {
			s.ok++
		}
		return
	}
	kind := op.Error
	if _, known := s.errors[kind]; !known && len(s.errors) >= errorKinds {
		kind = otherErrors
	}
	s.errors[kind]++
}

// loadResult is what a load has measured.
type loadResult struct {
	OK     bool   `json:"ok"` // exit code 0
	URL    string `json:"url"`
	Method string `json:"method"`
	Driver string `json:"driver"`

	Clients       int      `json:"clients,omitempty"`
	RequestedRate *float64 `json:"requested_rate_per_s,omitempty"`
	AchievedRate  float64  `json:"achieved_rate_per_s"` // sent within the duration
	OKRate        float64  `json:"ok_per_s"`            // answered ok within the duration
	Duration      float64  `json:"duration_s"`          // measured: without the warm-up, and up to where it was interrupted

	Scheduled int64 `json:"scheduled"`
	Answered  int64 `json:"answered_ok"`
	Failed    int64 `json:"fail"`
	Unknown   int64 `json:"info"`
	Unsent    int64 `json:"unsent"`

	Latency  stats.Summary    `json:"latency_ns"` // of those answered ok, from the due time
	SendLag  *sendLag         `json:"send_lag_ns,omitempty"`
	Statuses map[string]int64 `json:"statuses"`
	Bytes    int64            `json:"body_bytes"` // of all answers
	Errors   []errorCount     `json:"errors"`     // the most frequent ones

	Generator struct {
		Verdict stats.Fitness `json:"verdict,omitempty"`
		CPU     float64       `json:"cpu_us_per_request"` // user and system, warm-up included
		RSSMax  int64         `json:"rss_max_bytes"`
	} `json:"generator"`
	Reasons []string `json:"reasons"` // why ok is false

	code int
}

type sendLag struct {
	P50 time.Duration `json:"p50"`
	P99 time.Duration `json:"p99"`
	Max time.Duration `json:"max"`
}

type errorCount struct {
	Error string `json:"error"`
	N     int64  `json:"n"`
}

// fill writes what was counted into r. The load ended at to, perhaps early.
func (t *tally) fill(r *loadResult, to time.Duration) {
	latency := stats.NewRecorder()
	errors := map[string]int64{}
	var sent, ok int64
	for i := range t.shards {
		s := &t.shards[i]
		for status, n := range s.status {
			if n > 0 {
				r.Statuses[strconv.Itoa(status)] += n
			}
		}
		for kind, n := range s.errors {
			errors[kind] += n
		}
		latency.Merge(s.latency)
		sent += s.sent
		ok += s.ok
		r.Bytes += s.bytes
		r.Answered += s.counts.OK
		r.Failed += s.counts.Fail
		r.Unknown += s.counts.Info
		r.Unsent += s.counts.Unsent
	}
	r.Latency = latency.Summary()
	if r.Duration = max(0, to-t.from).Seconds(); r.Duration > 0 {
		r.AchievedRate, r.OKRate = float64(sent)/r.Duration, float64(ok)/r.Duration
	}
	for kind, n := range errors {
		r.Errors = append(r.Errors, errorCount{kind, n})
	}
	slices.SortFunc(r.Errors, func(a, b errorCount) int { return cmp.Or(cmp.Compare(b.N, a.N), cmp.Compare(a.Error, b.Error)) })
	if len(r.Errors) > topErrors {
		var rest int64
		for _, e := range r.Errors[topErrors:] {
			rest += e.N
		}
		r.Errors = append(r.Errors[:topErrors], errorCount{otherErrors, rest})
	}
}

// judge decides about ok and the exit code.
func (r *loadResult) judge(generator []string, stopped string) {
	r.Reasons = append(r.Reasons, generator...)
	if bad := r.Scheduled - r.Answered; bad > 0 {
		r.code = exitMissed
		r.Reasons = append(r.Reasons, fmt.Sprintf("Of %d requests %d were not answered ok.", r.Scheduled, bad))
	}
	answered := int64(0)
	for _, n := range r.Statuses {
		answered += n
	}
	if answered == 0 {
		r.Reasons = append(r.Reasons, "Nothing was answered.")
	}
	if stopped != "" {
		r.Reasons = append(r.Reasons, "The load "+stopped+".")
	}
	if answered == 0 || stopped != "" || r.Generator.Verdict != stats.Valid {
		r.code = exitUnknown
	}
	r.OK = r.code == exitPass
}

// print writes r for people.
func (r *loadResult) print(out io.Writer) error {
	var b []byte
	line := func(name, format string, args ...any) {
		b = fmt.Appendf(b, "%-10s %s\n", name, fmt.Sprintf(format, args...))
	}
	ok := "OK"
	if !r.OK {
		ok = "NOT OK"
	}
	b = fmt.Appendf(b, "%s  %s %s\n", ok, r.Method, r.URL)
	for _, reason := range r.Reasons {
		b = fmt.Appendf(b, "  %s\n", reason)
	}
	if r.Generator.Verdict != "" { // something was sent
		b = append(b, '\n')
		if r.RequestedRate != nil {
			line("Rate", "%.6g/s requested, %.6g/s sent, %.6g/s answered ok, for %g s", *r.RequestedRate, r.AchievedRate, r.OKRate, r.Duration)
		} else {
			line("Rate", "%d clients, %.6g/s answered ok, for %g s", r.Clients, r.OKRate, r.Duration)
		}
		line("Requests", "%d due: %d ok, %d fail, %d info, %d unsent", r.Scheduled, r.Answered, r.Failed, r.Unknown, r.Unsent)
		if l := r.Latency; l.N > 0 {
			line("Latency", "p50 %s, p90 %s, p99 %s, p99.9 %s, max %s, from the due time", reports.Duration(l.P50), reports.Duration(l.P90), reports.Duration(l.P99), reports.Duration(l.P999), reports.Duration(l.Max))
		}
		if l := r.SendLag; l != nil {
			line("Send lag", "p50 %s, p99 %s, max %s", reports.Duration(l.P50), reports.Duration(l.P99), reports.Duration(l.Max))
		}
		for _, status := range slices.Sorted(maps.Keys(r.Statuses)) {
			line("Status", "%s: %d", status, r.Statuses[status])
		}
		line("Bodies", "%d bytes", r.Bytes)
		for _, e := range r.Errors {
			line("Error", "%d x %s", e.N, e.Error)
		}
		line("Generator", "%s, driver %s, CPU %.1f µs per request, at most %d MiB", r.Generator.Verdict, r.Driver, r.Generator.CPU, r.Generator.RSSMax>>20)
	}
	_, err := out.Write(b)
	return err
}
