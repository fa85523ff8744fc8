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
	var out [len(ZeroDigest)]byte
	return string(AppendNextDigest(out[:0], prev, id))
}

// AppendNextDigest appends NextDigest(prev, id) to dst, which may hold prev.
func AppendNextDigest[T string | []byte](dst []byte, prev T, id string) []byte {
	var buf [96]byte
	b := append(append(buf[:0], prev...), id...)
	sum := sha256.Sum256(b)
	return hex.AppendEncode(dst, sum[:len(ZeroDigest)/2])
}
