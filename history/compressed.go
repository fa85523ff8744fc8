package history

import (
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// compressedSuffix is that of a compressed history.
const compressedSuffix = ".zst"

// maxWindow is the largest window of a compressed history, in bytes: what the
// command zstd reads without being told to take more. Reading needs that much
// memory, however much there is to read.
const maxWindow = 128 << 20

// newEncoder compresses as a run is recorded, by the last level but one, which
// costs about 2.5 microseconds per operation. The fastest takes half of that and
// leaves 7 % more, the last one four times as long and leaves 5 % less. Histories
// repeat themselves soon: a window of more than 1 MiB would cost memory and save
// nothing.
func newEncoder(w io.Writer) *zstd.Encoder {
	e, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithWindowSize(1<<20), zstd.WithEncoderConcurrency(1))
	if err != nil {
		panic(err) // an option that does not exist
	}
	return e
}

// readCompressed is ReadOps for a history.jsonl.zst, one or more frames of
// Zstandard. What a frame that was cut off yields is read like a history whose
// end is torn, and skipped is 1 then.
func readCompressed(r io.Reader, name string, fn func(*Op) error) (*Footer, int, error) {
	decoder, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, 0, fmt.Errorf("load run: %s: %w", name, err)
	}
	defer decoder.Close()
	lines := frames{decoder: decoder}
	footer, skipped, err := ReadOps(&lines, name, fn)
	if err == nil && lines.torn {
		skipped = 1
	}
	return footer, skipped, err
}

// frames reads what Zstandard frames hold, to where the last one was cut off.
type frames struct {
	decoder *zstd.Decoder
	torn    bool
}

func (f *frames) Read(p []byte) (int, error) {
	n, err := f.decoder.Read(p)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		f.torn, err = true, io.EOF
	case errors.Is(err, zstd.ErrWindowSizeExceeded):
		err = fmt.Errorf("%w: at most %d bytes\nhint: compress with zstd --long=27 or less", err, maxWindow)
	}
	return n, err
}
