package check

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"statequake/history"
)

// seconds prints an instant or a length of time with milliseconds.
func seconds(d time.Duration) string { return fmt.Sprintf("%.3f s", d.Seconds()) }

// who names the node that executed op, or else that was contacted.
func who(op *history.Op) string {
	switch {
	case op.Node != "":
		return op.Node
	case op.Via != "":
		return "a node behind " + op.Via
	default:
		return "the system"
	}
}

func opName(op *history.Op) string { return op.Name + " " + op.ID }

// short makes text from the system fit to print: cut where it gets long, on one
// line and without control characters.
func short(text string) string {
	const limit = 120
	if len(text) > limit {
		text = text[:limit] + "..."
	}
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, text)
}

// describe names the operation at a position of S.
func (k *key) describe(pos int) string {
	if op := k.applied(pos); op != nil {
		return opName(op)
	}
	return "operation " + short(k.ids[pos-1])
}

func (k *key) theAudit() string { return "the audit at " + seconds(k.audit.Returned) }

func (k *key) answered(op *history.Op) string {
	return fmt.Sprintf("%s was answered by %s at %s", opName(op), who(op), seconds(op.Returned))
}

func (k *key) acknowledged(op *history.Op) string {
	s := fmt.Sprintf("%s was acknowledged by %s at %s", opName(op), who(op), seconds(op.Returned))
	if op.Version >= 0 && op.Digest != "" {
		s += " with " + told(op)
	}
	return s
}

// told says which state a reply showed.
func told(op *history.Op) string {
	s := fmt.Sprintf("version %d, digest %s", op.Version, short(op.Digest))
	if op.Epoch != 0 {
		s += fmt.Sprintf(", epoch %d", op.Epoch)
	}
	return s
}

// atVersion says what S has at the version that a reply told.
func (k *key) atVersion(op *history.Op) string {
	v := op.Version
	switch {
	case v > int64(len(k.ids)):
		return fmt.Sprintf("%s has only %d operations", k.theAudit(), len(k.ids))
	case v == 0:
		return fmt.Sprintf("version 0 is the empty state and has digest %s", history.ZeroDigest)
	default:
		return fmt.Sprintf("%s has digest %s at version %d, after %s", k.theAudit(), k.digest(v), v, k.describe(int(v)))
	}
}

// brief prints a result.
func brief(result json.RawMessage) string { return short(cmp.Or(string(result), "nothing")) }
