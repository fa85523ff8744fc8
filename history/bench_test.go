package history

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"testing"
	"time"
)

// benchOps are operations as a benchmark of carts or counters records them.
func benchOps(entity string, n int) []Op {
	ops := make([]Op, n)
	digest := ZeroDigest
	for i := range ops {
		id := fmt.Sprintf("7f3a-l%d", i)
		digest = NextDigest(digest, id)
		at := 2*time.Second + time.Duration(i)*2*time.Millisecond
		args, result := `{"n":1}`, fmt.Sprintf(`{"value":%d}`, i)
		if entity == "cart" {
			args = fmt.Sprintf(`{"item":"sku-%d","quantity":2}`, i%50)
			result = fmt.Sprintf(`{"item":"sku-%d","quantity":4,"items":7}`, i%50)
		}
		ops[i] = Op{
			ID: id, N: int64(i), Phase: Load, Client: i % 64, Entity: entity,
			Key: fmt.Sprintf("%s-%d.1", entity, i%1000), Name: "add",
			Args:      json.RawMessage(args),
			Scheduled: at, Sent: at + 31*time.Microsecond, Returned: at + 2345*time.Microsecond, Attempts: 1,
			Outcome: OK, Result: json.RawMessage(result),
			Version: int64(i / 1000), Digest: digest, Epoch: 7, Node: "n1", Via: "n2",
		}
	}
	return ops
}

func encodeOps(ops []Op) []byte {
	var b []byte
	for i := range ops {
		b = appendOp(b, &ops[i])
	}
	return b
}

// BenchmarkReadOps measures the scanner beside encoding/json on the same lines.
func BenchmarkReadOps(b *testing.B) {
	const n = 10_000
	readers := map[string]func(data []byte) (int, error){
		"scanner": func(data []byte) (ops int, err error) {
			_, _, err = ReadOps(bytes.NewReader(data), "bench", func(*Op) error { ops++; return nil })
			return ops, err
		},
		"encoding-json": func(data []byte) (ops int, err error) {
			d := json.NewDecoder(bytes.NewReader(data))
			for {
				var line jsonOp
				if err := d.Decode(&line); err == io.EOF {
					return ops, nil
				} else if err != nil {
					return ops, err
				}
				ops++
			}
		},
	}
	for _, entity := range []string{"counter", "cart"} {
		data := encodeOps(benchOps(entity, n))
		for _, reader := range []string{"scanner", "encoding-json"} {
			b.Run(entity+"/"+reader, func(b *testing.B) {
				b.SetBytes(int64(len(data)))
				b.ReportAllocs()
				for b.Loop() {
					if ops, err := readers[reader](data); err != nil || ops != n {
						b.Fatalf("read %d ops, error %v; want %d", ops, err, n)
					}
				}
				b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "ops/s")
			})
		}
	}
}

func BenchmarkAppendOp(b *testing.B) {
	op := benchOps("cart", 1)[0]
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = appendOp(buf[:0], &op)
	}
	b.SetBytes(int64(len(buf)))
}
