package export

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	vegeta "github.com/tsenart/vegeta/v12/lib"

	"statequake/history"
)

// Format is a name of an encoding of results.
type Format string

const (
	VegetaJSON Format = "vegeta-json" // one JSON object per line
	VegetaGob  Format = "vegeta-gob"  // binary, what vegeta attack writes
	VegetaCSV  Format = "vegeta-csv"  // without a line of names
	HDR        Format = "hdr"         // a log of HdrHistogram, see Stream
	CSV        Format = "csv"         // every field of every operation, see Stream
)

var encoders = map[Format]func(io.Writer) vegeta.Encoder{
	VegetaJSON: vegeta.NewJSONEncoder,
	VegetaGob:  vegeta.NewEncoder,
	VegetaCSV:  vegeta.NewCSVEncoder,
}

// phases are all that there are.
var phases = []history.Phase{history.Warmup, history.Load, history.Probe, history.Drain, history.Audit}

// ParseFormat returns the format of that name, or an error that lists them.
func ParseFormat(name string) (Format, error) {
	if f := Format(name); encoders[f] == nil && streams[f] == nil {
		return "", fmt.Errorf("unknown format %q; have %s, %s, %s, %s, %s", name, HDR, CSV, VegetaJSON, VegetaGob, VegetaCSV)
	}
	return Format(name), nil
}

// ParsePhases returns the phases of those names, each once. The name all
// stands for every phase. An error lists the names that there are.
func ParsePhases(names []string) ([]history.Phase, error) {
	chosen := map[history.Phase]bool{}
	for _, name := range names {
		switch p := history.Phase(name); {
		case name == "all":
			for _, p := range phases {
				chosen[p] = true
			}
		case slices.Contains(phases, p):
			chosen[p] = true
		default:
			return nil, fmt.Errorf("unknown phase %q; have %s, all", name, list(phases))
		}
	}
	return slices.DeleteFunc(slices.Clone(phases), func(p history.Phase) bool { return !chosen[p] }), nil
}

// Results makes every operation of the chosen phases one vegeta result,
// whatever its outcome, in the order of their due times. The result is valid
// until the next one is asked for. The same operations give the same results in
// whatever order they were recorded. An error says that there are none.
//
//   - Attack is the operation's name, behind its phase if several are chosen:
//     "load add". Seq counts within an attack from 0. vegeta plot draws two
//     series per attack, OK and ERROR, and counts time from the attack's first
//     result.
//   - Timestamp is when the operation was due. A run does not record the wall
//     clock, so the start of the run stands at 1970-01-01T00:00:00Z.
//   - Latency is returned - scheduled, for info until the client gave up. An
//     unsent operation has none: 0, which lowers vegeta's percentiles. Mind its
//     success ratio.
//   - Code is 200 if ok. Otherwise it is 0, vegeta's code for no answer, since the
//     run does not record HTTP statuses, and Error is the outcome and why:
//     "info: connection reset". vegeta counts 200 to 399 as success.
//   - BytesOut and BytesIn are the lengths of args and result as recorded.
//   - Method is POST and URL is statequake:///ENTITY/KEY/NAME, each part escaped
//     as in a path.
//
// In Attack and Error, what cannot be printed is escaped as in Go (\n, \x00),
// and bytes that are not UTF-8 are U+FFFD, so that all formats carry the same.
func Results(run *history.Run, chosen []history.Phase) (iter.Seq[*vegeta.Result], error) {
	var ops []*history.Op
	for i := range run.Ops {
		if slices.Contains(chosen, run.Ops[i].Phase) {
			ops = append(ops, &run.Ops[i])
		}
	}
	if len(ops) == 0 {
		has := map[history.Phase]bool{}
		for i := range run.Ops {
			has[run.Ops[i].Phase] = true
		}
		return nil, none(run.Dir, chosen, has)
	}
	slices.SortFunc(ops, func(a, b *history.Op) int {
		return cmp.Or(cmp.Compare(a.Scheduled, b.Scheduled), cmp.Compare(a.ID, b.ID))
	})
	return func(yield func(*vegeta.Result) bool) {
		next := map[string]uint64{}
		for _, op := range ops {
			r := result(op)
			if len(chosen) > 1 {
				r.Attack = string(op.Phase) + " " + r.Attack
			}
			r.Seq = next[r.Attack]
			next[r.Attack]++
			if !yield(&r) {
				return
			}
		}
	}, nil
}

// Write writes the results to w.
func Write(w io.Writer, format Format, results iter.Seq[*vegeta.Result]) error {
	encoder := encoders[format]
	if encoder == nil {
		return errors.New("write: no format " + strconv.Quote(string(format)))
	}
	buffered := bufio.NewWriter(w)
	encode := encoder(buffered)
	for r := range results {
		if err := encode(r); err != nil {
			return fmt.Errorf("write %s: %w", format, err)
		}
	}
	if err := buffered.Flush(); err != nil {
		return fmt.Errorf("write %s: %w", format, err)
	}
	return nil
}

// result is the operation by itself, without its place among the others.
func result(op *history.Op) vegeta.Result {
	r := vegeta.Result{
		Attack:    printable(op.Name),
		Code:      200,
		Timestamp: time.Unix(0, int64(op.Scheduled)).UTC(),
		BytesOut:  uint64(len(op.Args)),
		BytesIn:   uint64(len(op.Result)),
		Method:    "POST",
		URL:       "statequake:///" + url.PathEscape(op.Entity) + "/" + url.PathEscape(op.Key) + "/" + url.PathEscape(op.Name),
	}
	if op.Outcome != history.Unsent {
		r.Latency = op.Latency()
	}
	if op.Outcome != history.OK {
		r.Code, r.Error = 0, string(op.Outcome)
		if op.Error != "" {
			r.Error += ": " + printable(op.Error)
		}
	}
	return r
}

// none says that a run has no operations of the chosen phases, and of which it
// has.
func none(dir string, chosen []history.Phase, has map[history.Phase]bool) error {
	problem := fmt.Sprintf("%s: holds no operations of phase %s", dir, list(chosen))
	if held := slices.DeleteFunc(slices.Clone(phases), func(p history.Phase) bool { return !has[p] }); len(held) > 0 {
		problem += "\nhint: it holds some of phase " + list(held)
	}
	return errors.New(problem)
}

// printable escapes what cannot be printed.
func printable(s string) string {
	var out strings.Builder
	for _, r := range s {
		if r == utf8.RuneError || strconv.IsPrint(r) {
			out.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRune(r)
		out.WriteString(quoted[1 : len(quoted)-1])
	}
	return out.String()
}

func list(phases []history.Phase) string {
	names := make([]string, len(phases))
	for i, p := range phases {
		names[i] = string(p)
	}
	return strings.Join(names, ", ")
}
