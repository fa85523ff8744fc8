package explain

import (
	"cmp"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"statequake/history"
	"statequake/reports/check"
)

// Sizes of a drawing, in pixels; widths are percent, so that text stays as
// large as it is however wide the page.
const (
	laneHeight = 34
	markHeight = 18
	axisHeight = 24

	axisFrom, axisTo = 1.0, 92.0 // where time runs; behind it there is room for open ends
	openEnd          = 95.0
	gapWidth         = 9.0 // of an interval that is left out
	leastWidth       = 1.0 // of any other
	mostGaps         = 3
	gapShare         = 0.9  // of what is drawn, which makes an interval a gap
	letter           = 1.75 // width of a letter of a label below the axis, on the narrowest page
	labelLetters     = 46
	markLetters      = 26
)

// Drawing is a story on a time axis: a lane per operation, from its sending to
// its return, a mark per fault, and gaps where nothing happened for long.
// X positions and widths are percent of the width, Y positions pixels.
type Drawing struct {
	Height int
	Axis   int // Y of the axis
	Lanes  []Lane
	Marks  []Mark
	Gaps   []Gap
	Ticks  []Tick
}

// Lane is one operation.
type Lane struct {
	Label   string
	LabelY  int
	BarY    int
	X, W    float64
	End     float64 // X + W
	Open    bool    // nobody answered: it may have happened at any time after its sending
	Audit   bool
	Suspect bool
}

// Mark is a fault.
type Mark struct {
	Label string
	X     float64
	Y     int
	Left  bool // the label stands to the left of the mark
}

// Gap is an interval that is not drawn as long as it was.
type Gap struct{ X, W, Middle float64 }

// Tick is an instant on the axis.
type Tick struct {
	X      float64
	Label  string
	Anchor string // start, middle or end: what of the label is at X
}

// Draw places a story. It returns false if there is nothing to draw.
func (s Story) Draw() (Drawing, bool) {
	var instants []time.Duration
	for _, e := range s.Events {
		switch {
		case e.Op == nil || e.Op.Outcome == history.Unsent:
			instants = append(instants, e.At)
		case e.Op.Outcome == history.Info:
			instants = append(instants, e.Op.Sent)
		default:
			instants = append(instants, e.Op.Sent, e.Op.Returned)
		}
	}
	if len(instants) == 0 {
		return Drawing{}, false
	}
	slices.Sort(instants)
	instants = slices.Compact(instants)
	d := Drawing{}
	x := d.scale(instants)

	y := 0
	for _, e := range s.Events {
		if e.Fault != nil {
			at := x[e.At]
			d.Marks = append(d.Marks, Mark{Label: letters(happened(e.Fault), markLetters), X: at, Y: y, Left: at > 50})
			y += markHeight
		}
	}
	for _, e := range s.Events {
		op := e.Op
		if op == nil {
			continue
		}
		lane := Lane{Label: letters(s.label(&e), labelLetters), LabelY: y + 13, BarY: y + 19, Audit: op.Phase == history.Audit, Suspect: e.Suspect}
		switch op.Outcome {
		case history.Unsent:
			lane.X, lane.End = x[e.At], x[e.At]
		case history.Info:
			lane.X, lane.End, lane.Open = x[op.Sent], openEnd, true
		default:
			lane.X, lane.End = x[op.Sent], x[op.Returned]
		}
		lane.W = max(lane.End-lane.X, 0)
		d.Lanes = append(d.Lanes, lane)
		y += laneHeight
	}
	d.Axis = y + 6
	d.Height = d.Axis + axisHeight
	d.ticks(instants, x)
	return d, true
}

// scale places instants, which are sorted, on the axis. Of an interval that
// would leave little room for all others only a gap is left.
func (d *Drawing) scale(instants []time.Duration) map[time.Duration]float64 {
	x := map[time.Duration]float64{instants[0]: axisFrom}
	n := len(instants) - 1
	if n == 0 {
		return x
	}
	gap := make([]bool, n)
	drawn, gaps := instants[n]-instants[0], 0
	length := func(i int) time.Duration { return instants[i+1] - instants[i] }
	for gaps < min(mostGaps, n-1) {
		longest := -1
		for i := range n {
			if !gap[i] && (longest < 0 || length(i) > length(longest)) {
				longest = i
			}
		}
		if length(longest) <= time.Duration(gapShare*float64(drawn)) {
			break
		}
		gap[longest] = true
		gaps++
		drawn -= length(longest)
	}
	room := axisTo - axisFrom - float64(gaps)*gapWidth - float64(n-gaps)*leastWidth
	at := axisFrom
	for i := range n {
		w := gapWidth
		if !gap[i] {
			w = leastWidth + room*float64(length(i))/float64(drawn)
		} else {
			d.Gaps = append(d.Gaps, Gap{X: at + 2, W: w - 4, Middle: at + w/2})
		}
		at += w
		x[instants[i+1]] = at
	}
	return x
}

// ticks labels as many instants as there is room for, the last one first.
func (d *Drawing) ticks(instants []time.Duration, x map[time.Duration]float64) {
	type span struct{ from, to float64 }
	var taken []span
	place := func(t time.Duration) {
		tick := Tick{X: x[t], Label: seconds(t), Anchor: "middle"}
		w := letter * float64(utf8.RuneCountInString(tick.Label))
		s := span{tick.X - w/2, tick.X + w/2}
		switch {
		case s.from < 0:
			tick.Anchor, s = "start", span{tick.X, tick.X + w}
		case s.to > 100:
			tick.Anchor, s = "end", span{tick.X - w, tick.X}
		}
		if slices.ContainsFunc(taken, func(o span) bool { return s.from < o.to+1 && o.from < s.to+1 }) {
			return
		}
		taken = append(taken, s)
		d.Ticks = append(d.Ticks, tick)
	}
	place(instants[len(instants)-1])
	for _, t := range instants {
		place(t)
	}
	slices.SortFunc(d.Ticks, func(a, b Tick) int { return cmp.Compare(a.X, b.X) })
}

// wrong says in a word or two what a suspect is.
var wrong = map[string]string{
	check.Duplicated: "applied twice", check.Lost: "gone", check.Phantom: "should not be", check.DirtyRead: "taken back",
	check.StaleRead: "stale", check.Reordered: "too early", check.FutureRead: "too early", check.HalfApplied: "half done",
	check.MissedDeadline: "no timer fired",
}

// label names an operation above its bar.
func (s Story) label(e *Event) string {
	op := e.Op
	name := letters(op.Name, 12) + " " + letters(op.ID, 12)
	if op.Phase == history.Audit {
		name = "audit " + letters(op.ID, 12)
	}
	text := "answered"
	switch {
	case op.Outcome == history.Info:
		text = "no answer"
	case op.Outcome == history.Fail:
		text = "failed"
	case op.Outcome == history.Unsent:
		text = "never sent"
	case check.Acknowledged(op):
		text = "acknowledged"
	}
	if e.Suspect {
		return name + ", " + text + ": " + cmp.Or(wrong[s.Kind], "wrong")
	}
	if op.Entity != s.Entity || op.Key != s.Key {
		name += " on " + letters(op.Entity+"/"+op.Key, 16)
	}
	if op.Node != "" {
		text += " by " + letters(op.Node, 10)
	}
	return name + ", " + text
}

// letters cuts text after n letters.
func letters(s string, n int) string {
	if r := []rune(s[:min(len(s), 4*n+4)]); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// Percent writes a position for SVG.
func Percent(x float64) string { return fmt.Sprintf("%.2f%%", x) }
