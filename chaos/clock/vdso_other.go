//go:build !amd64

package clock

import (
	"fmt"
	"runtime"
)

// redirect is written for amd64 only.
func redirect([]byte) (list []edit, data uint64, err error) {
	return nil, 0, fmt.Errorf("%w on %s, only on amd64", ErrUnavailable, runtime.GOARCH)
}
