package history

import (
	"crypto/sha256"
	"encoding/hex"
)

// ZeroDigest is the witness digest of an entity to which nothing was applied.
const ZeroDigest = "0000000000000000"

// NextDigest is the witness digest after the operation id was applied to an
// entity whose digest was prev: the first 16 hexadecimal digits of
// SHA-256(prev + id), both taken as ASCII. Systems under test compute the same.
func NextDigest(prev, id string) string {
	var buf [96]byte
	b := append(append(buf[:0], prev...), id...)
	sum := sha256.Sum256(b)
	var out [16]byte
	hex.Encode(out[:], sum[:8])
	return string(out[:])
}
