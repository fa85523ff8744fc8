package check

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"statequake/history"
)

// TestKnownHistories runs the histories in testdata, each of which says what
// must be found in it. A history is one operation or fault per line:
//
//	SENT-RETURNED NODE.EPOCH NAME ID [on ENTITY/KEY] [ARGS] -> RESULT [@ IDS]
//	SENT-RETURNED NODE.EPOCH audit ID [on ENTITY/KEY] -> IDS
//	SENT-RETURNED NODE.EPOCH audit-NAME ID [on ENTITY/KEY] -> RESULT
//	fault NAME EVENT AT NODE
//
// Times are milliseconds. The entity is counter/c unless stated; on a counter
// the argument 5 means {"n":5} and the result 5 means {"value":5}; on a register
// the word a means {"value":"a"} in both. audit-NAME is an operation of the audit
// of a run without a witness. A result of
// info, fail or unsent is an outcome instead. The ids after @ were applied to
// the state that the reply saw ("@ -" for none), and make its version and
// digest; "@v3" overrides the version. An id with a star was sent twice.
func TestKnownHistories(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			opt := Options{Ack: Durable, Witness: true, PorcupineTime: time.Minute}
			torn, quiet := false, true
			for _, arg := range d.CmdArgs {
				switch arg.Key {
				case "memory":
					opt.Ack = Memory
				case "window":
					opt.Window, _ = time.ParseDuration(arg.Vals[0])
				case "torn":
					torn = true
				case "witness-off":
					opt.Witness = false
				case "max-ops":
					opt.PorcupineMaxOps, _ = strconv.Atoi(arg.Vals[0])
				case "all":
					quiet = false
				default:
					d.Fatalf(t, "unknown argument %s", arg.Key)
				}
			}
			run, err := parse(d.Input)
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			if torn {
				run.Footer = nil
			}
			return show(Run(run, opt), quiet)
		})
	})
}

// show prints results; quiet leaves out checks that pass without a remark.
func show(results []Result, quiet bool) string {
	var b strings.Builder
	for _, r := range results {
		if quiet && r.Verdict == Pass && r.Name != "witness" && len(r.Reasons) == 0 {
			continue
		}
		fmt.Fprintf(&b, "%s: %s", r.Name, r.Verdict)
		if !quiet {
			fmt.Fprintf(&b, ", %d ops, %d keys, %d undecided", r.Ops, r.Keys, r.Undecided)
		}
		b.WriteByte('\n')
		for _, reason := range r.Reasons {
			fmt.Fprintf(&b, "  because: %s\n", reason)
		}
		for _, v := range r.Violations {
			fmt.Fprintf(&b, "  %s %s/%s %v\n    %s\n", v.Kind, v.Entity, v.Key, v.Ops, v.Explanation)
		}
		if r.Total > len(r.Violations) {
			fmt.Fprintf(&b, "  %d in all: %v\n", r.Total, r.Kinds)
		}
		for _, l := range r.LostAcks {
			fmt.Fprintf(&b, "  lost: %s of %s/%s by %s at %s, legal: %v\n", l.Op, l.Entity, l.Key, l.Node, seconds(l.Returned), l.Legal)
		}
	}
	return b.String()
}

// parse reads a history in the notation of TestKnownHistories.
func parse(text string) (*history.Run, error) {
	run := &history.Run{}
	for n, line := range strings.Split(text, "\n") {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		var err error
		if fields[0] == "fault" {
			err = parseFault(run, fields[1:])
		} else {
			err = parseOp(run, fields)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n+1, err)
		}
	}
	run.Footer = footer(run.Ops)
	return run, nil
}

// footer counts ops as a writer would. Stories do not tell when recording ended.
func footer(ops []history.Op) *history.Footer {
	f := history.FooterOf(ops)
	f.End = 0
	return f
}

func parseFault(run *history.Run, fields []string) error {
	if len(fields) != 4 {
		return fmt.Errorf("want fault NAME EVENT AT NODE")
	}
	at, err := strconv.Atoi(fields[2])
	run.Faults = append(run.Faults, history.Fault{
		Name: fields[0], Kind: "PodChaos", Event: history.EventKind(fields[1]),
		At: time.Duration(at) * time.Millisecond, Targets: []string{fields[3]},
	})
	return err
}

func parseOp(run *history.Run, fields []string) error {
	op := history.Op{N: int64(len(run.Ops)), Phase: history.Load, Entity: "counter", Key: "c", Outcome: history.OK, Version: -1, Attempts: 1}
	arrow, at := -1, len(fields)
	for i, f := range fields {
		switch {
		case f == "->":
			arrow = i
		case strings.HasPrefix(f, "@"):
			at = i
		}
	}
	if arrow < 4 {
		return fmt.Errorf("want SENT-RETURNED NODE.EPOCH NAME ID ... -> RESULT")
	}
	sent, returned, ok := strings.Cut(fields[0], "-")
	from, err1 := strconv.Atoi(sent)
	to, err2 := strconv.Atoi(returned)
	if !ok || err1 != nil || err2 != nil {
		return fmt.Errorf("%q is not SENT-RETURNED", fields[0])
	}
	op.Sent, op.Returned = time.Duration(from)*time.Millisecond, time.Duration(to)*time.Millisecond
	op.Scheduled = op.Sent
	node, epoch, ok := strings.Cut(fields[1], ".")
	op.Node = node
	if ok {
		op.Epoch, _ = strconv.ParseInt(epoch, 10, 64)
	}
	op.Name, op.ID = fields[2], fields[3]
	if name, ok := strings.CutPrefix(op.Name, "audit-"); ok {
		op.Phase, op.Name = history.Audit, name
	}
	if id, retried := strings.CutSuffix(op.ID, "*"); retried {
		op.ID, op.Attempts = id, 2
	}
	args := fields[4:arrow]
	if len(args) >= 2 && args[0] == "on" {
		op.Entity, op.Key, _ = strings.Cut(args[1], "/")
		args = args[2:]
	}
	if len(args) > 0 {
		op.Args = json.RawMessage(args[0])
		if _, err := strconv.Atoi(args[0]); err == nil {
			op.Args = json.RawMessage(fmt.Sprintf(`{"n":%s}`, args[0]))
		} else if op.Entity == registerEntity {
			op.Args = registerValue(args[0])
		}
	}
	result := fields[arrow+1 : at]
	answer := strings.Join(result, " ")
	if op.Name == "audit" {
		op.Phase, op.Name = history.Audit, history.WitnessOp
		if answer == "fail" || answer == "info" || answer == "unsent" {
			op.Outcome = history.Outcome(answer)
		} else {
			witnessReply(&op, result)
		}
	} else {
		switch _, err := strconv.Atoi(answer); {
		case answer == "info" || answer == "fail" || answer == "unsent":
			op.Outcome = history.Outcome(answer)
		case op.Entity == registerEntity:
			op.Result = registerValue(answer)
		case err == nil:
			op.Result = json.RawMessage(fmt.Sprintf(`{"value":%s}`, answer))
		default:
			op.Result = json.RawMessage(answer)
		}
	}
	if at < len(fields) {
		seen := fields[at+1:]
		if len(seen) == 1 && seen[0] == "-" {
			seen = nil
		}
		saw(&op, seen)
		if v, ok := strings.CutPrefix(fields[at], "@v"); ok {
			version, err := strconv.ParseInt(v, 10, 64)
			if err != nil {
				return err
			}
			op.Version = version
		}
	}
	if op.Outcome != history.OK {
		op.Result, op.Version, op.Digest, op.Epoch = nil, -1, "", 0
	}
	if op.Outcome == history.Unsent {
		op.Sent, op.Returned, op.Attempts = 0, 0, 0
	}
	run.Ops = append(run.Ops, op)
	return nil
}

// registerValue is {"value":...} of a word, or text that is JSON already.
func registerValue(text string) json.RawMessage {
	switch {
	case json.Valid([]byte(text)) && text != "null":
		return json.RawMessage(text)
	case text == "null":
		return json.RawMessage(`{"value":null}`)
	}
	return json.RawMessage(fmt.Sprintf(`{"value":%q}`, text))
}

// saw gives op the version and digest of a state to which ids were applied.
func saw(op *history.Op, ids []string) {
	op.Version = int64(len(ids))
	op.Digest = history.ZeroDigest
	for _, id := range ids {
		op.Digest = history.NextDigest(op.Digest, id)
	}
}

// witnessReply makes op the answer of a witness that holds ids.
func witnessReply(op *history.Op, ids []string) {
	saw(op, ids)
	if ids == nil {
		ids = []string{}
	}
	op.Result, _ = json.Marshal(map[string][]string{"ids": ids})
}
