package check

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"statequake/history"
)

// TestRecord: what is packed is unpacked as it was, however long its texts are
// and however many forms there are.
func TestRecord(t *testing.T) {
	var ops []history.Op
	for _, n := range []int{0, 1, 127, 128, 255, 256, 257, 1<<16 - 1, 1 << 16, 1<<24 - 2, 1<<24 - 1} {
		s := strings.Repeat("x", n)
		for _, change := range []func(op *history.Op){
			func(op *history.Op) { op.ID = s },
			func(op *history.Op) { op.Key = s },
			func(op *history.Op) { op.Digest = s },
			func(op *history.Op) { op.Args = asJSON([]byte(s)) },
			func(op *history.Op) { op.Result = asJSON([]byte(s)) },
			func(op *history.Op) { op.Phase = history.Phase(s) },
			func(op *history.Op) { op.Outcome = history.Outcome(s) },
			func(op *history.Op) { op.Entity = s },
			func(op *history.Op) { op.Name = s },
			func(op *history.Op) { op.Node = s },
			func(op *history.Op) { op.Via = s },
			func(op *history.Op) { op.Error = s },
			func(op *history.Op) { op.Version, op.Epoch, op.Client, op.Attempts = int64(n), int64(-n), n, -n },
		} {
			op := history.Op{
				ID: "id", Phase: history.Load, Client: 3, Entity: "cart", Key: "k", Name: "add", Args: []byte(`{"n":1}`),
				Sent: 5, Returned: 7, Attempts: 1, Outcome: history.OK, Result: []byte(`{"value":1}`), Version: -1,
				Digest: history.ZeroDigest, Epoch: 1 << 40, Node: "n1", Via: "n2",
			}
			change(&op)
			ops = append(ops, op)
		}
	}
	var f forms
	check := func(op *history.Op) {
		t.Helper()
		rec := f.pack(nil, op, 11, 13)
		if hashOf(rec) != 11 || seqOf(rec) != 13 || rec[recFlags] != 0 {
			t.Fatalf("hash %d, number %d, flags %d", hashOf(rec), seqOf(rec), rec[recFlags])
		}
		var got history.Op
		if rest := f.unpack(append(rec, "rest"...), &got); string(rest) != "rest" {
			t.Fatalf("%d bytes are left", len(rest))
		}
		if !reflect.DeepEqual(got, *op) {
			t.Fatalf("unpacked as %.300v, packed %.300v", got, *op)
		}
	}
	for i := range ops {
		check(&ops[i])
	}
	op := ops[0]
	for i := range maxForms + 10 { // the last of them have no number
		op.Error = fmt.Sprint("error ", i)
		f.of(&op)
		if i%1000 == 0 || i > maxForms-20 {
			check(&op)
		}
	}
	if len(f.list) != maxForms {
		t.Fatalf("%d forms", len(f.list))
	}
	for i := range ops {
		check(&ops[i])
	}
}
