package check

import (
	"encoding/binary"
	"encoding/json"
	"hash/maphash"
	"slices"
	"strings"
	"time"
	"unsafe"

	"statequake/history"
)

// An operation is packed into a record: the fixed part below, integers of
// variable length, then texts. Phases, outcomes and texts that repeat are
// numbers.
const (
	recLength   = 0  // uint32, of the whole record
	recFlags    = 4  // byte
	recPhase    = 5  // byte
	recOutcome  = 6  // byte
	recHash     = 8  // uint64, of entity and key
	recSeq      = 16 // uint64: the how-manieth operation of the run it is, or is caused by
	recSent     = 24 // int64
	recReturned = 32 // int64
	recFixed    = 40
)

// isCaused flags the record of an operation that another one caused; the rest
// of it is a cause.
const isCaused = 1

var seed = maphash.MakeSeed()

// hashKey is a hash of an entity's name.
func hashKey(entity, key string) uint64 { return hashEntity(entity) + hashText(key) }

func hashEntity(entity string) uint64 { return 31 * hashText(entity) }

func hashText(s string) uint64 { return maphash.String(seed, s) }

// names numbers texts that repeat, such as the names of entities, operations and
// nodes.
type names struct {
	list   []string // number n is list[n-1]
	number map[string]uint64
	recent [64]uint64 // a guess, by length and two bytes
}

// At most so many texts of at most so many bytes are numbered.
const maxNames, maxName = 1 << 16, 64

// of returns the number of s, or 0 if it has none.
func (n *names) of(s string) uint64 {
	guess := 0
	if len(s) > 0 {
		guess = (len(s)*7 + int(s[0]) + 3*int(s[len(s)-1])) & 63
	}
	if i := n.recent[guess]; i > 0 && n.list[i-1] == s {
		return i
	}
	i, ok := n.number[s]
	if !ok {
		if len(s) > maxName || len(n.list) >= maxNames {
			return 0
		}
		s = strings.Clone(s)
		n.list = append(n.list, s)
		i = uint64(len(n.list))
		if n.number == nil {
			n.number = map[string]uint64{}
		}
		n.number[s] = i
	}
	n.recent[guess] = i
	return i
}

// put writes s at to[i:], as a number if it has one, and returns where it ends.
func (n *names) put(to []byte, i int, s string) int {
	number := n.of(s)
	i = putUint(to, i, number)
	if number == 0 {
		i = putText(to, i, s)
	}
	return i
}

func putUint(to []byte, i int, v uint64) int {
	if v < 0x80 {
		to[i] = byte(v)
		return i + 1
	}
	return i + binary.PutUvarint(to[i:], v)
}

func putInt(to []byte, i int, v int64) int { return putUint(to, i, uint64(v)<<1^uint64(v>>63)) }

func putText[T string | json.RawMessage](to []byte, i int, s T) int {
	i = putUint(to, i, uint64(len(s)))
	return i + copy(to[i:], s)
}

var (
	phases   = [...]history.Phase{history.Load, history.Warmup, history.Probe, history.Drain, history.Audit}
	outcomes = [...]history.Outcome{history.OK, history.Fail, history.Info, history.Unsent}
)

// indexOf is the index of s in list, or its length.
func indexOf[T comparable](list []T, s T) byte {
	for i := range list {
		if list[i] == s {
			return byte(i)
		}
	}
	return byte(len(list))
}

// maxRecord is more than the record of op takes.
func maxRecord(op *history.Op) int {
	return recFixed + 24*binary.MaxVarintLen64 + len(op.Phase) + len(op.Outcome) + len(op.Entity) + len(op.Name) + len(op.Node) + len(op.Via) +
		len(op.Error) + len(op.ID) + len(op.Key) + len(op.Digest) + len(op.Args) + len(op.Result)
}

// pack appends op, all of it but N and Scheduled, to b, which must be empty or
// hold whole records. phase and outcome are the indexes of its own.
func (n *names) pack(b []byte, op *history.Op, phase, outcome byte, hash, seq uint64) []byte {
	start := len(b)
	b = slices.Grow(b, maxRecord(op))
	to := b[start:cap(b)]
	binary.LittleEndian.PutUint32(to[recFlags:], uint32(phase)<<8|uint32(outcome)<<16)
	binary.LittleEndian.PutUint64(to[recHash:], hash)
	binary.LittleEndian.PutUint64(to[recSeq:], seq)
	binary.LittleEndian.PutUint64(to[recSent:], uint64(op.Sent))
	binary.LittleEndian.PutUint64(to[recReturned:], uint64(op.Returned))
	i := recFixed
	if int(phase) == len(phases) {
		i = putText(to, i, string(op.Phase))
	}
	if int(outcome) == len(outcomes) {
		i = putText(to, i, string(op.Outcome))
	}
	i = putInt(to, i, op.Version)
	i = putInt(to, i, op.Epoch)
	i = putInt(to, i, int64(op.Client))
	i = putInt(to, i, int64(op.Attempts))
	i = n.put(to, i, op.Entity)
	i = n.put(to, i, op.Name)
	i = n.put(to, i, op.Node)
	i = n.put(to, i, op.Via)
	i = n.put(to, i, op.Error)
	i = putText(to, i, op.ID)
	i = putText(to, i, op.Key)
	i = putText(to, i, op.Digest)
	i = putText(to, i, op.Args)
	i = putText(to, i, op.Result)
	binary.LittleEndian.PutUint32(to[recLength:], uint32(i))
	return b[:start+i]
}

// unpacker reads records. Texts that it returns are those of names, or share
// memory with the record.
type unpacker struct{ b []byte }

func (u *unpacker) uint() uint64 {
	if b := u.b; len(b) > 0 && b[0] < 0x80 {
		u.b = b[1:]
		return uint64(b[0])
	}
	return u.long()
}

// long reads an integer of more than one byte.
func (u *unpacker) long() uint64 {
	v, n := binary.Uvarint(u.b)
	u.b = u.b[n:]
	return v
}

func (u *unpacker) int() int64 {
	v := u.uint()
	return int64(v>>1) ^ -int64(v&1)
}

func (u *unpacker) bytes() []byte {
	n := u.uint()
	b := u.b[:n:n]
	u.b = u.b[n:]
	return b
}

func (u *unpacker) text() string { return asString(u.bytes()) }

func asString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

func (u *unpacker) name(n *names) string {
	if i := u.uint(); i > 0 {
		return n.list[i-1]
	}
	return u.text()
}

func (u *unpacker) json() json.RawMessage {
	if b := u.bytes(); len(b) > 0 {
		return b
	}
	return nil
}

// unpack reads the operation of a record into op, of which it sets all that is
// kept, and returns what follows it in the record.
func (n *names) unpack(rec []byte, op *history.Op) (rest []byte) {
	op.Sent = time.Duration(binary.LittleEndian.Uint64(rec[recSent:]))
	op.Returned = time.Duration(binary.LittleEndian.Uint64(rec[recReturned:]))
	u := unpacker{rec[recFixed:]}
	if i := int(rec[recPhase]); i < len(phases) {
		op.Phase = phases[i]
	} else {
		op.Phase = history.Phase(u.text())
	}
	if i := int(rec[recOutcome]); i < len(outcomes) {
		op.Outcome = outcomes[i]
	} else {
		op.Outcome = history.Outcome(u.text())
	}
	op.Version = u.int()
	op.Epoch = u.int()
	op.Client = int(u.int())
	op.Attempts = int(u.int())
	op.Entity = u.name(n)
	op.Name = u.name(n)
	op.Node = u.name(n)
	op.Via = u.name(n)
	op.Error = u.name(n)
	op.ID = u.text()
	op.Key = u.text()
	op.Digest = u.text()
	op.Args = u.json()
	op.Result = u.json()
	return u.b
}

func hashOf(rec []byte) uint64 { return binary.LittleEndian.Uint64(rec[recHash:]) }
func seqOf(rec []byte) uint64  { return binary.LittleEndian.Uint64(rec[recSeq:]) }
