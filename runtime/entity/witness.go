package entity

import (
	"crypto/sha256"
	"encoding/hex"
)

// Witness is the list of operations applied to an entity, in order, with its
// hash chain. Entities under test keep it in their own state, so that every
// reply tells which history it was computed from and an audit can read it back.
//
// A state of Value or EventSourced that embeds a Witness has it kept by the
// SDK, and answers the command "witness" with it.
type Witness struct {
	IDs    []string `json:"ids,omitempty"`
	Digest string   `json:"digest,omitempty"`
}

// zeroDigest is the digest of an entity to which nothing was applied.
const zeroDigest = "0000000000000000"

// Record notes that the operation op was applied. The digest after it is the
// first 16 hexadecimal digits of SHA-256(previous digest + op); the first
// previous digest is 16 zeros.
func (w *Witness) Record(op string) {
	_, prev := w.Applied()
	var buf [128]byte
	sum := sha256.Sum256(append(append(buf[:0], prev...), op...))
	var digest [16]byte
	hex.Encode(digest[:], sum[:8])
	w.IDs, w.Digest = append(w.IDs, op), string(digest[:])
}

// Applied returns how many operations were applied, and their digest.
func (w *Witness) Applied() (version int64, digest string) {
	if w.Digest == "" {
		return 0, zeroDigest
	}
	return int64(len(w.IDs)), w.Digest
}

// List is the reply to the command "witness".
func (w *Witness) List() Decision {
	ids := w.IDs
	if ids == nil {
		ids = []string{}
	}
	return Reply(map[string][]string{"ids": ids})
}

func (w *Witness) self() *Witness { return w }

// witnessOf is the witness that the state at p embeds, nil if it has none.
func witnessOf(p any) *Witness {
	if w, ok := p.(interface{ self() *Witness }); ok {
		return w.self()
	}
	return nil
}
