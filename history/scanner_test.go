package history

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// jsonOp is a line of history.jsonl as encoding/json sees it.
type jsonOp struct {
	ID        string          `json:"id"`
	N         int64           `json:"n"`
	Phase     Phase           `json:"phase"`
	Client    int             `json:"client"`
	Entity    string          `json:"entity"`
	Key       string          `json:"key"`
	Name      string          `json:"op"`
	Args      json.RawMessage `json:"args,omitempty"`
	Scheduled time.Duration   `json:"scheduled_ns"`
	Sent      time.Duration   `json:"sent_ns"`
	Returned  time.Duration   `json:"returned_ns"`
	Attempts  int             `json:"attempts"`
	Outcome   Outcome         `json:"outcome"`
	Result    json.RawMessage `json:"result,omitempty"`
	Version   *int64          `json:"version,omitempty"`
	Digest    string          `json:"digest,omitempty"`
	Epoch     int64           `json:"epoch,omitempty"`
	Error     string          `json:"error,omitempty"`
	Node      string          `json:"node,omitempty"`
	Via       string          `json:"via,omitempty"`
}

// decodeJSON decodes a line with encoding/json by the rules of the format. It
// returns the footer's value instead if the line is the footer.
func decodeJSON(line []byte) (o Op, footer json.RawMessage, err error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(line, &members); err != nil {
		return o, nil, err
	}
	if members == nil {
		return o, nil, fmt.Errorf("null")
	}
	var missing []string
	exact := make(map[string]json.RawMessage) // without the names that only encoding/json takes, e.g. "ID"
	for f, name := range fieldNames {
		raw, ok := members[name]
		if ok && (string(raw) != "null" || f == fieldArgs || f == fieldResult) {
			exact[name] = raw
		} else if required&(1<<f) != 0 {
			missing = append(missing, name)
		}
	}
	footer, hasFooter := members["footer"]
	delete(exact, "footer")
	b, err := json.Marshal(exact)
	if err != nil {
		return o, nil, err
	}
	var line2 jsonOp
	if err := json.Unmarshal(b, &line2); err != nil {
		return o, nil, err
	}
	o = Op{
		ID: line2.ID, N: line2.N, Phase: line2.Phase, Client: line2.Client, Entity: line2.Entity,
		Key: line2.Key, Name: line2.Name, Args: line2.Args,
		Scheduled: line2.Scheduled, Sent: line2.Sent, Returned: line2.Returned, Attempts: line2.Attempts,
		Outcome: line2.Outcome, Result: line2.Result, Version: -1, Digest: line2.Digest,
		Epoch: line2.Epoch, Error: line2.Error, Node: line2.Node, Via: line2.Via,
	}
	if line2.Version != nil {
		o.Version = max(*line2.Version, -1)
	}
	if _, ok := exact["phase"]; ok {
		if _, err := phaseOf([]byte(o.Phase)); err != nil {
			return o, nil, err
		}
	}
	if _, ok := exact["outcome"]; ok {
		if _, err := outcomeOf([]byte(o.Outcome)); err != nil {
			return o, nil, err
		}
	}
	if hasFooter && len(missing) == len(requiredNames()) {
		return o, footer, nil
	}
	if missing != nil || hasFooter {
		return o, nil, fmt.Errorf("missing %v, footer %v", missing, hasFooter)
	}
	return o, nil, nil
}

func requiredNames() (names []string) {
	for f, name := range fieldNames {
		if required&(1<<f) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// sameOp compares two operations; raw values by their meaning for encoding/json.
func sameOp(a, b *Op) error {
	if !sameJSON(a.Args, b.Args) {
		return fmt.Errorf("args %s, want %s", a.Args, b.Args)
	}
	if !sameJSON(a.Result, b.Result) {
		return fmt.Errorf("result %s, want %s", a.Result, b.Result)
	}
	x, y := *a, *b
	x.Args, y.Args, x.Result, y.Result = nil, nil, nil, nil
	if g, w := fmt.Sprintf("%+v", x), fmt.Sprintf("%+v", y); g != w {
		return fmt.Errorf("got  %s\nwant %s", g, w)
	}
	return nil
}

func sameJSON(a, b json.RawMessage) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return canonical(a) == canonical(b)
}

// canonical keeps numbers as they are written and the order of members.
func canonical(raw json.RawMessage) string {
	var out strings.Builder
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	for {
		token, err := d.Token()
		if err != nil {
			return out.String() + err.Error()
		}
		fmt.Fprintf(&out, "%T %q\n", token, fmt.Sprint(token))
	}
}

const plainLine = `{"id":"7f3a-l1","n":1,"phase":"load","client":3,"entity":"counter","key":"counter-17.2","op":"add","args":{"n":2},` +
	`"scheduled_ns":2000000,"sent_ns":2000031,"returned_ns":4000000,"attempts":1,"outcome":"ok",` +
	`"result":{"value":7},"version":4,"digest":"0123456789abcdef","epoch":9,"node":"n1","via":"n2"}`

func plainOp() Op {
	return Op{
		ID: "7f3a-l1", N: 1, Phase: Load, Client: 3, Entity: "counter", Key: "counter-17.2", Name: "add",
		Args: json.RawMessage(`{"n":2}`), Scheduled: 2 * time.Millisecond, Sent: 2*time.Millisecond + 31,
		Returned: 4 * time.Millisecond, Attempts: 1, Outcome: OK, Result: json.RawMessage(`{"value":7}`),
		Version: 4, Digest: "0123456789abcdef", Epoch: 9, Node: "n1", Via: "n2",
	}
}

func TestScan(t *testing.T) {
	edit := func(change func(*Op)) Op {
		o := plainOp()
		change(&o)
		return o
	}
	replace := func(old, by string) string {
		if !strings.Contains(plainLine, old) {
			t.Fatalf("the plain line does not hold %s", old)
		}
		return strings.Replace(plainLine, old, by, 1)
	}
	for _, test := range []struct {
		name, line string
		want       Op
	}{
		{"as written", plainLine, plainOp()},
		{"other order and whitespace",
			" {\t\"via\" : \"n2\" ,\r \"node\":\"n1\",\"epoch\":9,\"digest\":\"0123456789abcdef\",\"version\": 4,\"result\" : {\"value\":7},\"outcome\":\"ok\"," +
				"\"attempts\":1,\"returned_ns\":4000000,\"sent_ns\":2000031,\"scheduled_ns\":2000000,\"args\":\t{\"n\":2},\"op\":\"add\"," +
				"\"key\":\"counter-17.2\",\"entity\":\"counter\",\"client\":3,\"phase\":\"load\",\"n\":1,\"id\":\"7f3a-l1\" } ",
			plainOp()},
		{"unknown members of every type", replace(`"via"`, `"x":[1,{"y":"\u0041"},null,true,false,-1.5e+3,""],"z":{},"via"`), plainOp()},
		{"escaped member name", replace(`"via"`, `"v\u0069a"`), plainOp()},
		{"the last of equal names holds", replace(`"via"`, `"via":"n9","via"`), plainOp()},
		{"null is absent", replace(`"via":"n2"`, `"via":null,"error":null`), edit(func(o *Op) { o.Via = "" })},
		{"null takes back", replace(`"via":"n2"`, `"via":"n2","via":null`), edit(func(o *Op) { o.Via = "" })},
		{"version 0", replace(`"version":4`, `"version":0`), edit(func(o *Op) { o.Version = 0 })},
		{"no version", replace(`"version":4,`, ``), edit(func(o *Op) { o.Version = -1 })},
		{"version below 0", replace(`"version":4`, `"version":-7`), edit(func(o *Op) { o.Version = -1 })},
		{"result null", replace(`{"value":7}`, `null`), edit(func(o *Op) { o.Result = json.RawMessage(`null`) })},
		{"no result", replace(`"result":{"value":7},`, ``), edit(func(o *Op) { o.Result = nil })},
		{"all escapes", replace(`"node":"n1"`, `"node":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00"`), edit(func(o *Op) { o.Node = "\"\\/\b\f\n\r\té😀" })},
		{"surrogates without partner", replace(`"node":"n1"`, `"node":"\ud83d\u0041\ude00\ud83d\ud83d\ude00"`), edit(func(o *Op) { o.Node = "\uFFFDA\uFFFD\uFFFD😀" })},
		{"invalid UTF-8", replace(`"node":"n1"`, "\"node\":\"a\xff\xc3z\""), edit(func(o *Op) { o.Node = "a\uFFFD\uFFFDz" })},
		{"invalid UTF-8 in a result", replace(`{"value":7}`, "\"\xff\""), edit(func(o *Op) { o.Result = json.RawMessage("\"\uFFFD\"") })},
		{"largest integers", replace(`"n":1`, `"n":9223372036854775807`), edit(func(o *Op) { o.N = 1<<63 - 1 })},
		{"smallest integers", replace(`"n":1`, `"n":-9223372036854775808`), edit(func(o *Op) { o.N = -1 << 63 })},
		{"minus zero", replace(`"n":1`, `"n":-0`), edit(func(o *Op) { o.N = 0 })},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := new(scanner)
			// Leftovers of an earlier line must not show.
			got := Op{Error: "old", Node: "old", Via: "old", Args: []byte("old"), Result: []byte("old"), Digest: "old", Version: 99, Epoch: 99}
			if footer, err := s.scan([]byte(test.line), &got); err != nil || footer != nil {
				t.Fatalf("footer %s, error %v", footer, err)
			}
			if err := sameOp(&got, &test.want); err != nil {
				t.Error(err)
			}
			byJSON, _, err := decodeJSON([]byte(test.line))
			if err != nil {
				t.Fatal(err)
			}
			if err := sameOp(&got, &byJSON); err != nil {
				t.Errorf("unlike encoding/json: %v", err)
			}
		})
	}
}

func TestScanErrors(t *testing.T) {
	replace := func(old, by string) string { return strings.Replace(plainLine, old, by, 1) }
	for _, test := range []struct{ name, line, want string }{
		{"no object", `[1]`, "column 1: unexpected '[', expected an object"},
		{"empty object", `{}`, "missing field: id, n, phase, client, entity, key, op, scheduled_ns, sent_ns, returned_ns, attempts, outcome"},
		{"missing", replace(`"outcome":"ok",`, ``), "missing field: outcome"},
		{"null for a required field", replace(`"ok"`, `null`), "missing field: outcome"},
		{"unknown phase", replace(`"load"`, `"lunch"`), `phase: "lunch" is not one of warmup, load, probe, drain, audit`},
		{"unknown outcome", replace(`"ok"`, `"maybe"`), `outcome: "maybe" is not one of ok, fail, info, unsent`},
		{"fraction", replace(`"n":1`, `"n":1.0`), `n: "1.0" is not a 64-bit integer`},
		{"too large", replace(`"n":1`, `"n":9223372036854775808`), `n: "9223372036854775808" is not a 64-bit integer`},
		{"too small", replace(`"n":1`, `"n":-9223372036854775809`), `n: "-9223372036854775809" is not a 64-bit integer`},
		{"many digits", replace(`"n":1`, `"n":100000000000000000000`), `n: "100000000000000000000" is not a 64-bit integer`},
		{"leading zero", replace(`"n":1`, `"n":01`), `n: "01" is not a 64-bit integer`},
		{"string for a number", replace(`"n":1`, `"n":"1"`), `n: "\"1\"" is not a 64-bit integer`},
		{"number for a string", replace(`"n1"`, `1`), `node: column 284: unexpected '1', expected a string`},
		{"trailing comma", replace(`"via":"n2"`, `"via":"n2",`), `expected a string`},
		{"trailing text", plainLine + `{}`, `unexpected '{', expected the end of the line`},
		{"invalid result", replace(`{"value":7}`, `{"value":7`), "column 299: the line ends, expected a comma or the end of the object"},
		{"invalid escape", replace(`"n1"`, `"\x"`), "invalid escape"},
		{"short escape", replace(`"n1"`, `"\u12"`), "invalid escape"},
		{"control character", replace(`"n1"`, "\"a\x01\""), `control character '\x01' in a string`},
		{"nesting", replace(`{"value":7}`, strings.Repeat("[", maxDepth+2)+strings.Repeat("]", maxDepth+2)), "nested deeper than 1000"},
		{"operation and footer", replace(`"via"`, `"footer":{},"via"`), "both an operation and the footer"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := new(scanner).scan([]byte(test.line), new(Op))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %s", err, test.want)
			}
			if test.name == "nesting" {
				return // encoding/json goes deeper
			}
			if _, _, err := decodeJSON([]byte(test.line)); err == nil {
				t.Error("encoding/json takes this line")
			}
		})
	}
}

// TestScanPrefixes cuts a line everywhere: nothing but the whole is an
// operation.
func TestScanPrefixes(t *testing.T) {
	s, o := new(scanner), new(Op)
	for cut := range len(plainLine) {
		if _, err := s.scan([]byte(plainLine[:cut]), o); err == nil {
			t.Errorf("the first %d of %d bytes are taken for an operation", cut, len(plainLine))
		}
	}
}

func FuzzReadOps(f *testing.F) {
	f.Add([]byte(plainLine))
	f.Add([]byte(plainLine + "\n" + `{"footer":{"version":1,"scheduled":{"load":1},"counts":{"load":{"ok":1}},"end_ns":5}}` + "\n"))
	f.Add([]byte(`{"footer":{"version":2}}`))
	f.Add([]byte(strings.Replace(plainLine, `"n1"`, `"\ud83d\ude00\u0000\/"`, 1)))
	f.Add([]byte(strings.Replace(plainLine, `{"value":7}`, " [ 1.5e-7 , {\"a\\u0062\" : [ ] } , \"\xff\" ] ", 1)))
	f.Add([]byte(strings.Replace(plainLine, `"value":7`, "\"a\xfb\xfb\xe2\x28b\":7", 1)))
	f.Add([]byte(strings.Replace(plainLine, `"n":1`, `"n":-9223372036854775808,"N":2,"id":null`, 1)))
	f.Add([]byte("\n \t\r\n" + plainLine + "\n\n" + plainLine[:100]))
	f.Add([]byte(`{"id":"\u0022","n":0}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		// A line is read as encoding/json reads it.
		if line, _, _ := bytes.Cut(data, []byte("\n")); bytes.Count(line, []byte("["))+bytes.Count(line, []byte("{")) <= maxDepth {
			var got Op
			footer, err := new(scanner).scan(line, &got)
			want, wantFooter, wantErr := decodeJSON(line)
			if (err != nil) != (wantErr != nil) {
				t.Fatalf("error %v, encoding/json: %v\nline %q", err, wantErr, line)
			}
			if (footer != nil) != (wantFooter != nil) {
				t.Fatalf("footer %q, encoding/json: %q\nline %q", footer, wantFooter, line)
			}
			if err == nil && footer == nil {
				if err := sameOp(&got, &want); err != nil {
					t.Fatalf("unlike encoding/json: %v\nline %q", err, line)
				}
			}
		}
		// What was read can be written and read again.
		var ops []Op
		if _, _, err := ReadOps(bytes.NewReader(data), "fuzz", func(o *Op) error { ops = append(ops, *o); return nil }); err != nil {
			if !strings.HasPrefix(err.Error(), "fuzz:") {
				t.Fatalf("error without a place: %v", err)
			}
			return
		}
		n := 0
		footer, skipped, err := ReadOps(bytes.NewReader(encodeOps(ops)), "again", func(o *Op) error {
			if err := sameOp(o, &ops[n]); err != nil {
				t.Fatal(err)
			}
			n++
			return nil
		})
		if err != nil || skipped != 0 || footer != nil || n != len(ops) {
			t.Fatalf("read %d of %d ops again, skipped %d, error %v", n, len(ops), skipped, err)
		}
	})
}
