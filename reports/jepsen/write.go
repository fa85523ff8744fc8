package jepsen

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"statequake/history"
)

// Write writes the operations on one type of entity as a history of Jepsen: one
// map a line, invocations and completions in the order of time, the values as
// tuples [key value] of jepsen.independent. Operations that were never sent are
// left out, and so are the reads of a witness.
//
//   - Of a register, set and get are :write and :read, of a counter add and get
//     are :add and :read, with plain values. :returned is what an add was answered
//     with, and a write if that is not the value written. Of other types the
//     operations keep their names, and arguments and results are maps.
//   - :process numbers a client that has one operation in flight. After :info a
//     client goes on as another process.
//   - :time is in nanoseconds since the start of the run. Where instants are
//     equal, invocations come first: the operations are concurrent.
//   - Reads of the audit are marked by :final? true; :id, :node and :error are
//     those of the run.
func Write(w io.Writer, run *history.Run, entity string) error {
	type entry struct {
		op   *history.Op
		done bool
	}
	var entries []entry
	for i := range run.Ops {
		op := &run.Ops[i]
		if op.Entity == entity && op.Outcome != history.Unsent && op.Name != history.WitnessOp {
			entries = append(entries, entry{op, false}, entry{op, true})
		}
	}
	slices.SortStableFunc(entries, func(a, b entry) int {
		instant := func(e entry) int64 {
			if e.done {
				return int64(e.op.Returned)
			}
			return int64(e.op.Sent)
		}
		if a.done != b.done && instant(a) == instant(b) {
			if b.done {
				return -1
			}
			return 1
		}
		return cmp.Compare(instant(a), instant(b))
	})
	out := bufio.NewWriterSize(w, 64<<10)
	var line []byte
	free := map[int][]int64{} // idle processes of each client
	process := map[*history.Op]int64{}
	next := int64(0)
	for i, e := range entries {
		op := e.op
		kind := invoke
		p := process[op]
		if !e.done {
			if idle := free[op.Client]; len(idle) > 0 {
				p, free[op.Client] = idle[len(idle)-1], idle[:len(idle)-1]
			} else {
				p = next
				next++
			}
			process[op] = p
		} else {
			delete(process, op)
			switch op.Outcome {
			case history.OK:
				kind = ok
			case history.Fail:
				kind = fail
			default:
				kind = info
			}
			if kind != info {
				free[op.Client] = append(free[op.Client], p)
			}
		}
		var err error
		if line, err = appendEntry(line[:0], i, p, kind, op); err != nil {
			return fmt.Errorf("operation %s: %w", op.ID, err)
		}
		if _, err := out.Write(line); err != nil {
			return err
		}
	}
	return out.Flush()
}

// Entity returns the type of entity to write: entity, or if that is empty the
// only one that the run has. An error lists those that it has.
func Entity(run *history.Run, entity string) (string, error) {
	types := map[string]bool{}
	for i := range run.Ops {
		types[run.Ops[i].Entity] = true
	}
	all := slices.Sorted(maps.Keys(types))
	switch {
	case len(all) == 0:
		return "", errors.New("the run holds no operations")
	case types[entity]:
		return entity, nil
	case entity != "":
		return "", fmt.Errorf("no operations on an entity %q; have %s", entity, strings.Join(all, ", "))
	case len(all) > 1:
		return "", fmt.Errorf("the run has several types of entity\nhint: --entity %s", strings.Join(all, ", --entity "))
	}
	return all[0], nil
}

// appendEntry appends the line of one invocation or completion.
func appendEntry(b []byte, index int, process int64, kind kind, op *history.Op) ([]byte, error) {
	instant := op.Sent
	if kind != invoke {
		instant = op.Returned
	}
	f, argument, answer, returned, err := translate(op)
	if err != nil {
		return nil, err
	}
	b = fmt.Appendf(b, "{:index %d, :time %d, :type :%s, :process %d, :f ", index, int64(instant), kind, process)
	b = appendName(b, f)
	b = append(b, ", :value ["...)
	b = appendString(b, op.Key)
	b = append(b, ' ')
	if kind == ok {
		b = append(b, answer...)
	} else {
		b = append(b, argument...)
	}
	b = append(b, ']')
	if kind == ok && returned != nil {
		b = append(append(b, ", :returned "...), returned...)
	}
	if op.Phase == history.Audit {
		b = append(b, ", :final? true"...)
	}
	b = appendString(append(b, ", :id "...), op.ID)
	if kind != invoke {
		if node := cmp.Or(op.Node, op.Via); node != "" {
			b = appendString(append(b, ", :node "...), node)
		}
		if op.Error != "" {
			b = appendString(append(b, ", :error "...), op.Error)
		}
	}
	return append(b, "}\n"...), nil
}

// translate puts an operation into Jepsen's terms: its function, and in EDN what
// it was invoked with and what it completed with if it was ok.
func translate(op *history.Op) (f string, argument, answer, returned []byte, err error) {
	args, err := toEDN(op.Args)
	if err != nil {
		return "", nil, nil, nil, fmt.Errorf("args: %w", err)
	}
	result, err := toEDN(op.Result)
	if err != nil {
		return "", nil, nil, nil, fmt.Errorf("result: %w", err)
	}
	switch op.Entity + "." + op.Name {
	case "register.get", "counter.get":
		if value, ok := member(op.Result, "value"); ok {
			result = value
		}
		return "read", []byte("nil"), result, nil, nil
	case "register.set":
		value, ok := member(op.Args, "value")
		if !ok {
			break
		}
		if told, ok := member(op.Result, "value"); ok && !bytes.Equal(told, value) {
			returned = told
		}
		return "write", value, value, returned, nil
	case "counter.add":
		n, ok := member(op.Args, "n")
		if !ok {
			break
		}
		if told, ok := member(op.Result, "value"); ok {
			returned = told
		}
		return "add", n, n, returned, nil
	}
	return op.Name, args, result, nil, nil
}

// member returns the value of the only member of an object, in EDN.
func member(raw json.RawMessage, name string) ([]byte, bool) {
	var object map[string]json.RawMessage
	if json.Unmarshal(raw, &object) != nil || len(object) != 1 || object[name] == nil {
		return nil, false
	}
	value, err := toEDN(object[name])
	return value, err == nil
}

// toEDN turns JSON into EDN: names of members become keywords where they can be
// ones, null and nothing become nil.
func toEDN(raw json.RawMessage) ([]byte, error) {
	if len(bytes.TrimSpace(raw)) == 0 {
		return []byte("nil"), nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	return appendValue(nil, d)
}

func appendValue(b []byte, d *json.Decoder) ([]byte, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t := token.(type) {
	case nil:
		return append(b, "nil"...), nil
	case bool:
		return strconv.AppendBool(b, t), nil
	case string:
		return appendString(b, t), nil
	case json.Number:
		b = append(b, t...)
		if _, err := t.Int64(); err != nil && !strings.ContainsAny(t.String(), ".eE") {
			b = append(b, 'N')
		}
		return b, nil
	case json.Delim:
		closer := byte(']')
		if t == '{' {
			closer = '}'
		}
		b = append(b, byte(t))
		for first := true; d.More(); first = false {
			if !first {
				b = append(b, ' ')
			}
			if t == '{' {
				name, err := d.Token()
				if err != nil {
					return nil, err
				}
				b = append(appendName(b, name.(string)), ' ')
			}
			if b, err = appendValue(b, d); err != nil {
				return nil, err
			}
		}
		_, err := d.Token()
		return append(b, closer), err
	}
	return nil, fmt.Errorf("unexpected %v", token)
}

var keyword = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]*$`)

// appendName appends a keyword, or a string if name cannot be one.
func appendName(b []byte, name string) []byte {
	if keyword.MatchString(name) {
		return append(append(b, ':'), name...)
	}
	return appendString(b, name)
}

// appendString appends a string. Invalid UTF-8 becomes U+FFFD.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, `\n`...)
		case r < ' ' || r == 0x7f:
			b = fmt.Appendf(b, `\u%04x`, r)
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}
