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
// variable length, then texts. What repeats from one operation to the next is
// one number, its form.
const (
	recLength   = 0  // uint32, of the whole record
	recFlags    = 4  // byte
	recForm     = 5  // 3 bytes
	recHash     = 8  // uint64, of entity and key
	recSeq      = 16 // uint64: the how-manieth operation of the run it is, or is caused by
	recSent     = 24 // int64
	recReturned = 32 // int64
	recLengths  = 40 // uint64, of texts that are not in the form: see lengths
	recFixed    = 48
)

// lengths are those of id, key, digest, args and result in 8, 8, 8, 16 and 24
// bits. If one of them is too long, it is longTexts, and every text has its length
// before it.
func lengths(op *history.Op) uint64 {
	if len(op.ID)|len(op.Key)|len(op.Digest) > 1<<8-1 || len(op.Args) > 1<<16-1 || len(op.Result) >= 1<<24-1 {
		return longTexts
	}
	return uint64(len(op.ID)) | uint64(len(op.Key))<<8 | uint64(len(op.Digest))<<16 | uint64(len(op.Args))<<24 | uint64(len(op.Result))<<40
}

const longTexts = (1<<24 - 1) << 40

// isCaused flags the record of an operation that another one caused; the rest
// of it is a cause.
const isCaused = 1

var seed = maphash.MakeSeed()

// hashKey is a hash of an entity's name.
func hashKey(entity, key string) uint64 { return hashEntity(entity) + hashText(key) }

func hashEntity(entity string) uint64 { return 31 * hashText(entity) }

func hashText(s string) uint64 { return maphash.String(seed, s) }

// form is what many operations have in common.
type form struct {
	phase                          history.Phase
	outcome                        history.Outcome
	entity, name, node, via, error string
}

func formOf(op *history.Op) form {
	return form{op.Phase, op.Outcome, op.Entity, op.Name, op.Node, op.Via, op.Error}
}

// fits reports whether op has the form f.
func (f *form) fits(op *history.Op) bool {
	return f.name == op.Name && f.node == op.Node && f.via == op.Via && f.entity == op.Entity &&
		f.phase == op.Phase && f.outcome == op.Outcome && f.error == op.Error
}

// size is how many bytes of text are in f.
func (f *form) size() int {
	return len(f.phase) + len(f.outcome) + len(f.entity) + len(f.name) + len(f.node) + len(f.via) + len(f.error)
}

// forms numbers the forms of operations.
type forms struct {
	list   []form // number n is list[n-1]
	number map[form]uint32
	recent [64]uint32 // a guess, by lengths and bytes
}

// At most so many forms of at most so many bytes are numbered, which bounds the
// memory that they take.
const maxForms, maxForm = 1 << 15, 256

// of returns the number of the form of op, or 0 if it has none.
func (n *forms) of(op *history.Op) uint32 {
	guess := uint(len(op.Error)) + 7*uint(len(op.Phase))
	if len(op.Name) > 0 {
		guess += uint(op.Name[0])
	}
	if l := len(op.Node); l > 0 {
		guess += 5 * uint(op.Node[l-1])
	}
	if l := len(op.Via); l > 0 {
		guess += 17 * uint(op.Via[l-1])
	}
	guess &= 63
	if i := n.recent[guess]; i > 0 && n.list[i-1].fits(op) {
		return i
	}
	f := formOf(op)
	i, ok := n.number[f]
	if !ok {
		if f.size() > maxForm || len(n.list) >= maxForms {
			return 0
		}
		f = form{
			history.Phase(strings.Clone(string(f.phase))), history.Outcome(strings.Clone(string(f.outcome))),
			strings.Clone(f.entity), strings.Clone(f.name), strings.Clone(f.node), strings.Clone(f.via), strings.Clone(f.error),
		}
		n.list = append(n.list, f)
		i = uint32(len(n.list))
		if n.number == nil {
			n.number = map[form]uint32{}
		}
		n.number[f] = i
	}
	n.recent[guess] = i
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
// hold whole records.
func (n *forms) pack(b []byte, op *history.Op, hash, seq uint64) []byte {
	start := len(b)
	b = slices.Grow(b, maxRecord(op))
	to := b[start:cap(b)]
	number := n.of(op)
	binary.LittleEndian.PutUint32(to[recFlags:], number<<8)
	binary.LittleEndian.PutUint64(to[recHash:], hash)
	binary.LittleEndian.PutUint64(to[recSeq:], seq)
	binary.LittleEndian.PutUint64(to[recSent:], uint64(op.Sent))
	binary.LittleEndian.PutUint64(to[recReturned:], uint64(op.Returned))
	i := recFixed
	if number == 0 {
		for _, s := range [...]string{string(op.Phase), string(op.Outcome), op.Entity, op.Name, op.Node, op.Via, op.Error} {
			i = putText(to, i, s)
		}
	}
	i = putInt(to, i, op.Version)
	i = putInt(to, i, op.Epoch)
	i = putInt(to, i, int64(op.Client))
	i = putInt(to, i, int64(op.Attempts))
	l := lengths(op)
	binary.LittleEndian.PutUint64(to[recLengths:], l)
	if l == longTexts {
		i = putText(to, i, op.ID)
		i = putText(to, i, op.Key)
		i = putText(to, i, op.Digest)
		i = putText(to, i, op.Args)
		i = putText(to, i, op.Result)
	} else {
		i += copy(to[i:], op.ID)
		i += copy(to[i:], op.Key)
		i += copy(to[i:], op.Digest)
		i += copy(to[i:], op.Args)
		i += copy(to[i:], op.Result)
	}
	binary.LittleEndian.PutUint32(to[recLength:], uint32(i))
	return b[:start+i]
}

// unpacker reads records. Texts that it returns share memory with the record.
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

// asJSON is b, or nil if it is empty.
func asJSON(b []byte) json.RawMessage {
	if len(b) == 0 {
		return nil
	}
	return b
}

// unpack reads the operation of a record into op, of which it sets all that is
// kept, and returns what follows it in the record.
func (n *forms) unpack(rec []byte, op *history.Op) (rest []byte) {
	op.Sent = time.Duration(binary.LittleEndian.Uint64(rec[recSent:]))
	op.Returned = time.Duration(binary.LittleEndian.Uint64(rec[recReturned:]))
	u := unpacker{rec[recFixed:]}
	if i := binary.LittleEndian.Uint32(rec[recFlags:]) >> 8; i > 0 {
		f := &n.list[i-1]
		op.Phase, op.Outcome = f.phase, f.outcome
		op.Entity, op.Name, op.Node, op.Via, op.Error = f.entity, f.name, f.node, f.via, f.error
	} else {
		op.Phase, op.Outcome = history.Phase(u.text()), history.Outcome(u.text())
		op.Entity, op.Name, op.Node, op.Via, op.Error = u.text(), u.text(), u.text(), u.text(), u.text()
	}
	op.Version = u.int()
	op.Epoch = u.int()
	op.Client = int(u.int())
	op.Attempts = int(u.int())
	l := binary.LittleEndian.Uint64(rec[recLengths:])
	if l == longTexts {
		op.ID, op.Key, op.Digest = u.text(), u.text(), u.text()
		op.Args, op.Result = asJSON(u.bytes()), asJSON(u.bytes())
		return u.b
	}
	b := u.b
	end := int(l & 0xff)
	op.ID, b = asString(b[:end]), b[end:]
	end = int(l >> 8 & 0xff)
	op.Key, b = asString(b[:end]), b[end:]
	end = int(l >> 16 & 0xff)
	op.Digest, b = asString(b[:end]), b[end:]
	end = int(l >> 24 & 0xffff)
	op.Args, b = asJSON(b[:end:end]), b[end:]
	end = int(l >> 40)
	op.Result, b = asJSON(b[:end:end]), b[end:]
	return b
}

func hashOf(rec []byte) uint64 { return binary.LittleEndian.Uint64(rec[recHash:]) }
func seqOf(rec []byte) uint64  { return binary.LittleEndian.Uint64(rec[recSeq:]) }
