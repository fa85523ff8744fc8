package core

import (
	"encoding/binary"
	"errors"
	"fmt"

	"statequake/runtime/entity"
)

// The journal's format: a version, then integers as varints, and strings and
// JSON as their length and bytes. Positions count up by one within a group.
//
//	group  = version seq epoch pos n record*n
//	record = type key op flags [event-name event-data] result version digest [n change*n]
//	change = name flags [due type key command args]
//
// It is not JSON, since a group is waited for while it is encoded.
const groupVersion = 1

// flags of a record and of a change.
const (
	hasEvent = 1 << iota
	hasTimers
	isCancel
)

// EncodeGroup encodes a group for the journal. It does not fail.
func EncodeGroup(g Group) ([]byte, error) {
	size := 64
	for i := range g.Records {
		size += g.Records[i].bytes()
	}
	b := append(make([]byte, 0, size), groupVersion)
	b = binary.AppendVarint(b, g.Seq)
	b = binary.AppendVarint(b, g.Epoch)
	pos := int64(0)
	if len(g.Records) > 0 {
		pos = g.Records[0].Pos
	}
	b = binary.AppendVarint(b, pos)
	b = binary.AppendUvarint(b, uint64(len(g.Records)))
	for i := range g.Records {
		b = appendRecord(b, &g.Records[i])
	}
	return b, nil
}

func appendRecord(b []byte, r *Record) []byte {
	flags := byte(0)
	if r.Event != nil {
		flags |= hasEvent
	}
	if len(r.Timers) > 0 {
		flags |= hasTimers
	}
	b = appendText(b, r.ID.Type)
	b = appendText(b, r.ID.Key)
	b = appendText(b, r.Op)
	b = append(b, flags)
	if r.Event != nil {
		b = appendText(b, r.Event.Name)
		b = appendText(b, r.Event.Data)
	}
	b = appendText(b, r.Result)
	b = binary.AppendVarint(b, r.Version)
	b = appendText(b, r.Digest)
	if len(r.Timers) > 0 {
		b = binary.AppendUvarint(b, uint64(len(r.Timers)))
		for _, t := range r.Timers {
			b = appendChange(b, t)
		}
	}
	return b
}

func appendChange(b []byte, t TimerChange) []byte {
	b = appendText(b, t.Name)
	if t.Cancel {
		return append(b, isCancel)
	}
	b = append(b, 0)
	b = binary.AppendVarint(b, t.Due)
	b = appendText(b, t.Target.Type)
	b = appendText(b, t.Target.Key)
	b = appendText(b, t.Command)
	return appendText(b, t.Args)
}

func appendText[T ~string | ~[]byte](b []byte, s T) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

var errGroup = errors.New("journal group: does not decode")

// DecodeGroup reads what EncodeGroup wrote. The group may refer to data.
func DecodeGroup(data []byte) (Group, error) {
	if len(data) == 0 {
		return Group{}, errGroup
	}
	if data[0] != groupVersion {
		return Group{}, fmt.Errorf("journal group: version %d: have %d", data[0], groupVersion)
	}
	d := decoder{data: data[1:]}
	g := Group{Seq: d.varint(), Epoch: d.varint()}
	pos, n := d.varint(), d.count()
	for i := range n {
		r := d.record()
		r.Pos = pos + int64(i)
		g.Records = append(g.Records, r)
	}
	if d.bad || len(d.data) > 0 {
		return Group{}, errGroup
	}
	return g, nil
}

// decoder reads from the front of data; after an error it reads zeros.
type decoder struct {
	data []byte
	bad  bool
}

func (d *decoder) fail() {
	d.data, d.bad = nil, true
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.data)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.data = d.data[n:]
	return v
}

// count reads a length, which what is left must be able to hold.
func (d *decoder) count() int {
	v, n := binary.Uvarint(d.data)
	if n <= 0 || v > uint64(len(d.data)-n) {
		d.fail()
		return 0
	}
	d.data = d.data[n:]
	return int(v)
}

func (d *decoder) byte() byte {
	if len(d.data) == 0 {
		d.fail()
		return 0
	}
	c := d.data[0]
	d.data = d.data[1:]
	return c
}

// raw returns nil for what is empty.
func (d *decoder) raw() []byte {
	n := d.count()
	if n == 0 {
		return nil
	}
	part := d.data[:n:n]
	d.data = d.data[n:]
	return part
}

func (d *decoder) text() string { return string(d.raw()) }

func (d *decoder) record() Record {
	r := Record{ID: ID{Type: d.text(), Key: d.text()}, Op: d.text()}
	flags := d.byte()
	if flags&hasEvent != 0 {
		r.Event = &entity.Event{Name: d.text(), Data: d.raw()}
	}
	r.Result, r.Version, r.Digest = d.raw(), d.varint(), d.text()
	if flags&hasTimers != 0 {
		for range d.count() {
			r.Timers = append(r.Timers, d.change())
		}
	}
	return r
}

func (d *decoder) change() TimerChange {
	t := TimerChange{Name: d.text()}
	if d.byte()&isCancel != 0 {
		t.Cancel = true
		return t
	}
	t.Due, t.Target = d.varint(), ID{Type: d.text(), Key: d.text()}
	t.Command, t.Args = d.text(), d.raw()
	return t
}
