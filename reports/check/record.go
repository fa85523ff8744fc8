package check

import (
	"encoding/binary"
	"encoding/json"
	"hash/maphash"
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
func hashKey(entity, key string) uint64 {
	return maphash.String(seed, key) + 31*maphash.String(seed, entity)
}

func hashID(id string) uint64 { return maphash.String(seed, id) }

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

func (n *names) append(b []byte, s string) []byte {
	i := n.of(s)
	b = binary.AppendUvarint(b, i)
	if i == 0 {
		b = appendText(b, s)
	}
	return b
}

func appendText[T string | json.RawMessage](b []byte, s T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

var (
	phases   = []history.Phase{history.Load, history.Warmup, history.Probe, history.Drain, history.Audit}
	outcomes = []history.Outcome{history.OK, history.Fail, history.Info, history.Unsent}
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
// hold whole records.
func (n *names) pack(b []byte, op *history.Op, hash, seq uint64) []byte {
	start := len(b)
	var fixed [recFixed]byte
	b = append(b, fixed[:]...)
	h := b[start:]
	h[recPhase], h[recOutcome] = indexOf(phases, op.Phase), indexOf(outcomes, op.Outcome)
	binary.LittleEndian.PutUint64(h[recHash:], hash)
	binary.LittleEndian.PutUint64(h[recSeq:], seq)
	binary.LittleEndian.PutUint64(h[recSent:], uint64(op.Sent))
	binary.LittleEndian.PutUint64(h[recReturned:], uint64(op.Returned))
	if h[recPhase] == byte(len(phases)) {
		b = appendText(b, string(op.Phase))
	}
	if h[recOutcome] == byte(len(outcomes)) {
		b = appendText(b, string(op.Outcome))
	}
	b = binary.AppendVarint(b, op.Version)
	b = binary.AppendVarint(b, op.Epoch)
	b = binary.AppendVarint(b, int64(op.Client))
	b = binary.AppendVarint(b, int64(op.Attempts))
	b = n.append(b, op.Entity)
	b = n.append(b, op.Name)
	b = n.append(b, op.Node)
	b = n.append(b, op.Via)
	b = n.append(b, op.Error)
	b = appendText(b, op.ID)
	b = appendText(b, op.Key)
	b = appendText(b, op.Digest)
	b = appendText(b, op.Args)
	b = appendText(b, op.Result)
	binary.LittleEndian.PutUint32(b[start+recLength:], uint32(len(b)-start))
	return b
}

// unpacker reads records. Texts that it returns are those of names, or share
// memory with the record.
type unpacker struct{ b []byte }

func (u *unpacker) uint() uint64 {
	if len(u.b) > 0 && u.b[0] < 0x80 {
		v := u.b[0]
		u.b = u.b[1:]
		return uint64(v)
	}
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
