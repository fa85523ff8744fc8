package export

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"maps"
	"math"
	"runtime"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"statequake/history"
)

func streamed(t testing.TB, dir string, format Format, chosen ...history.Phase) (string, Summary) {
	t.Helper()
	var out bytes.Buffer
	s, err := Stream(&out, dir, format, chosen)
	if err != nil {
		t.Fatal(err)
	}
	return out.String(), s
}

// spread is a history of which operations return in some seconds and some are
// recorded long after others that returned later.
func spread(n int) []history.Op {
	ops := synthetic(n)
	for i := range ops {
		op := &ops[i]
		if op.Outcome == history.Unsent {
			continue
		}
		shift := time.Duration(op.N*13%60) * time.Second
		op.Scheduled, op.Sent, op.Returned = op.Scheduled+shift, op.Sent+shift, op.Returned+shift
	}
	sort.SliceStable(ops, func(i, j int) bool { return ops[i].Returned/1e10 < ops[j].Returned/1e10 })
	ops = append(ops, history.Op{ // a latency beyond a day
		ID: "7f3a-l999999", N: 999_999, Phase: history.Load, Entity: "counter", Key: "k", Name: "a,b c\n", Outcome: history.OK, Version: -1,
		Sent: 1, Returned: 30 * time.Hour, Attempts: 1, Result: []byte("1"),
	})
	return ops
}

// The library's own reader finds in a log what the history holds: for every tag
// and second as many operations, and the same percentiles.
func TestHDR(t *testing.T) {
	run := record(t, spread(4000), false)
	log, s := streamed(t, run.Dir, HDR, history.Load, history.Audit)
	want := map[slot][]int64{}
	unsent := int64(0)
	for i := range run.Ops {
		op := &run.Ops[i]
		if op.Phase != history.Load && op.Phase != history.Audit {
			continue
		}
		if op.Outcome == history.Unsent {
			unsent++
			continue
		}
		tag := string(op.Phase) + ":"
		if op.Outcome != history.OK {
			tag += string(op.Outcome) + ":"
		}
		if op.Name == "a,b c\n" {
			tag += "a%2Cb+c%0A"
		} else {
			tag += op.Name
		}
		at := slot{int64(op.Returned / time.Second), tag}
		want[at] = append(want[at], int64(min(op.Latency(), longest)))
	}
	if s.Torn || s.Unsent != unsent || unsent == 0 {
		t.Errorf("summary %+v, want %d unsent", s, unsent)
	}

	reader := hdrhistogram.NewHistogramLogReader(strings.NewReader(log))
	got := map[slot]*hdrhistogram.Histogram{}
	lines := 0
	for {
		h, err := reader.NextIntervalHistogram()
		if err != nil {
			t.Fatal(err)
		}
		if h == nil {
			break
		}
		lines++
		if h.EndTimeMs()-h.StartTimeMs() != 1000 {
			t.Errorf("interval from %d to %d ms", h.StartTimeMs(), h.EndTimeMs())
		}
		at := slot{h.StartTimeMs() / 1000, h.Tag()}
		if got[at] == nil {
			got[at] = h
		} else if dropped := got[at].Merge(h); dropped > 0 {
			t.Errorf("%+v: %d values do not fit", at, dropped)
		}
	}
	if lines <= len(want) {
		t.Errorf("%d lines for %d seconds and tags: nothing came late", lines, len(want))
	}
	if len(got) != len(want) {
		t.Errorf("%d seconds and tags, want %d", len(got), len(want))
	}
	for at, latencies := range want {
		h := got[at]
		if h == nil || h.TotalCount() != int64(len(latencies)) {
			t.Fatalf("%+v: have %v, want %d operations", at, h, len(latencies))
		}
		slices.Sort(latencies)
		same := hdrhistogram.New(1000, int64(longest), 3)
		for _, latency := range latencies {
			if err := same.RecordValue(latency); err != nil {
				t.Fatal(err)
			}
		}
		for _, q := range []float64{50, 90, 99, 99.9, 100} {
			if got, want := h.ValueAtQuantile(q), same.ValueAtQuantile(q); got != want {
				t.Errorf("%+v: quantile %v is %d, want %d", at, q, got, want)
			}
		}
		if most := latencies[len(latencies)-1]; math.Abs(float64(h.Max()-most)) > 1000+float64(most)/1000 {
			t.Errorf("%+v: the longest is %d, want %d", at, h.Max(), most)
		}
	}
	for _, line := range []string{
		"#[Histogram log format version 1.3]\n", "#[StartTime: 0 (seconds since epoch), 1970-01-01T00:00:00Z]\n",
		"\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n",
	} {
		if !strings.Contains(log, line) {
			t.Errorf("no %q in\n%.500s", line, log)
		}
	}
	if alone, _ := streamed(t, run.Dir, HDR, history.Load); !strings.Contains(alone, "Tag=add,") || strings.Contains(alone, "load:") {
		t.Error("with one phase, tags are not the names alone")
	}
}

// Every field of every operation is in its line.
func TestCSV(t *testing.T) {
	ops := spread(100)
	ops[0].Error, ops[0].Outcome, ops[0].Result = "=cmd|'/C calc'!A0, \"twice\"\nand more", history.Info, nil
	ops[1].Key, ops[1].Node, ops[1].Version, ops[1].Digest, ops[1].Epoch, ops[1].Via = "-k", "@n", 7, "+1", 3, "\tn2"
	ops[2].Result = []byte("-5")
	run := record(t, ops, true)
	text, s := streamed(t, run.Dir, CSV, phases...)
	if !s.Torn {
		t.Error("a torn history is not said to be torn")
	}
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != len(run.Ops)+1 || !slices.Equal(rows[0], columns) {
		t.Fatalf("%d rows of %d operations below %v", len(rows), len(run.Ops), rows[0])
	}
	for i, row := range rows[1:] {
		op := &run.Ops[i]
		cell := map[string]string{}
		for j, name := range columns {
			cell[name] = row[j]
		}
		want := map[string]string{
			"id": op.ID, "n": fmt.Sprint(op.N), "phase": string(op.Phase), "client": fmt.Sprint(op.Client), "entity": op.Entity, "key": op.Key,
			"op": op.Name, "args": string(op.Args), "scheduled_ns": fmt.Sprint(int64(op.Scheduled)), "sent_ns": fmt.Sprint(int64(op.Sent)),
			"returned_ns": fmt.Sprint(int64(op.Returned)), "attempts": fmt.Sprint(op.Attempts), "outcome": string(op.Outcome),
			"result": string(op.Result), "version": "", "digest": op.Digest, "epoch": "", "error": op.Error, "node": op.Node, "via": op.Via,
		}
		switch op.ID {
		case ops[0].ID:
			want["error"] = "'" + op.Error
		case ops[1].ID:
			want["key"], want["node"], want["version"], want["digest"], want["epoch"], want["via"] = "'-k", "'@n", "7", "'+1", "3", "'\tn2"
		case ops[2].ID:
			want["result"] = "-5"
		}
		if !maps.Equal(cell, want) {
			t.Fatalf("row %d\nhave %v\nwant %v", i, cell, want)
		}
	}
}

func TestStreamWithoutOperations(t *testing.T) {
	run := record(t, synthetic(0), false)
	for format := range streams {
		var out bytes.Buffer
		_, err := Stream(&out, run.Dir, format, []history.Phase{history.Load})
		if err == nil || !strings.Contains(err.Error(), "holds no operations of phase load") || out.Len() > 0 {
			t.Errorf("%s: %v, %q", format, err, out.String())
		}
		if _, err := Stream(&out, "nowhere", format, phases); err == nil || !strings.Contains(err.Error(), "nowhere") {
			t.Errorf("%s: %v", format, err)
		}
		if _, err := Stream(broken{}, record(t, synthetic(50_000), false).Dir, format, phases); err == nil {
			t.Errorf("%s: a disk that is full is not noticed", format)
		}
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, fmt.Errorf("no space left") }

// A long run takes no more memory than a short one.
func TestStreamKeepsNothing(t *testing.T) {
	held := func(n int, format Format) (most uint64) {
		var ops []history.Op
		for i := range n {
			at := time.Duration(i) * ms
			ops = append(ops, history.Op{ID: fmt.Sprintf("7f3a-l%d", i), N: int64(i), Phase: history.Load, Entity: "counter", Key: "k", Name: "add", Version: -1,
				Scheduled: at, Sent: at, Returned: at + ms, Attempts: 1, Outcome: history.OK, Result: []byte(`{"value":1}`)})
		}
		dir := record(t, ops, false).Dir
		clear(ops)
		runtime.GC()
		seen := 0
		if _, err := Stream(writer(func(p []byte) (int, error) {
			if seen++; seen%8 == 0 {
				var m runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&m)
				most = max(most, m.HeapAlloc)
			}
			return len(p), nil
		}), dir, format, phases); err != nil {
			t.Fatal(err)
		}
		return most
	}
	if short, long := held(20_000, CSV), held(200_000, CSV); long > short+8<<20 {
		t.Errorf("%d bytes for 20,000 operations, %d for 200,000", short, long)
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }
