package loadgen

import (
	"fmt"
	"strconv"
)

// MaxValue is the longest value that a workload writes, in bytes. The reference
// runtime keeps the answers to at least that many bytes times 256 to recognize
// retries, and 512 values of that size in one entity.
const MaxValue = 1024

// MaxSessions bounds WorkloadConfig.Sessions.
const MaxSessions = 65_536

// Sizes are from and to how many bytes values have, both included, each equally
// often.
type Sizes struct{ From, To int }

func (s Sizes) check() error {
	if s != (Sizes{}) && (s.From < 1 || s.To < s.From || s.To > MaxValue) {
		return fmt.Errorf("%d to %d bytes is not within 1 to %d", s.From, s.To, MaxValue)
	}
	return nil
}

const printable = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz-"

// appendValue appends the value that operation n writes, as a JSON string. It is
// unique by construction, also with regard to probes, since checkers of
// registers rely on that; what makes it longer is drawn, so that it does not
// compress well.
func (w *Workload) appendValue(b []byte, n int64) []byte {
	size := w.values.From
	if more := w.values.To - size; more > 0 {
		size += w.rand.IntN(more + 1)
	}
	b = append(b, '"')
	from := len(b)
	b = append(b, 's')
	b = strconv.AppendInt(b, w.seed, 10)
	b = append(b, '-', 'n')
	b = strconv.AppendInt(b, n, 10)
	if size -= len(b) - from; size > 0 {
		b = append(b, '.') // ends the number
		size--
	}
	for size > 0 {
		for bits, i := w.rand.Uint64(), 0; i < 10 && size > 0; i++ {
			b = append(b, printable[bits&63])
			bits >>= 6
			size--
		}
	}
	return append(b, '"')
}
