package hand

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// askTime bounds what a harness answers at once.
const askTime = 5 * time.Second

// Client asks the harness of a run directory. Its methods may be called
// concurrently.
type Client struct {
	place string
	dir   int // file descriptor
	http  *http.Client
}

// Dial finds the harness that takes faults in dir. The client must be closed.
func Dial(dir string) (*Client, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	c := &Client{place: filepath.Join(dir, socketName), dir: fd}
	dial := func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", address(fd))
	}
	c.http = &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, // a connection is a fault
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
	}}
	conn, err := dial(context.Background())
	if err != nil {
		unix.Close(fd)
		return nil, c.unheard(err)
	}
	conn.Close()
	return c, nil
}

// unheard words why nobody answers.
func (c *Client) unheard(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: nobody takes faults there\nhint: a run takes them during its load, a cluster from statequake cluster up as long as it runs", c.place)
	case errors.Is(err, unix.ECONNREFUSED):
		return fmt.Errorf("%s: its harness is gone", c.place)
	}
	return fmt.Errorf("%s: %w", c.place, cause(err))
}

// cause is an error without the address that nobody has given.
func cause(err error) error {
	var outer *url.Error
	if errors.As(err, &outer) {
		err = outer.Err
	}
	return err
}

// Close frees what the client holds.
func (c *Client) Close() { unix.Close(c.dir) }

// Info asks the harness about itself.
func (c *Client) Info(ctx context.Context) (Info, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	var info Info
	resp, err := c.do(ctx, http.MethodGet, "/v1", nil)
	if err != nil {
		return info, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return info, c.problem(resp)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxInfo)).Decode(&info); err != nil {
		return info, fmt.Errorf("%s: %w", c.place, err)
	}
	return info, nil
}

// Inject has a fault injected and returns when it is over. heard gets the lines
// as they come. When ctx ends, the harness heals the fault, and Inject does not
// wait for it. The error is *Refused if the harness did not take it.
func (c *Client) Inject(ctx context.Context, order Order, heard func(Line)) error {
	body, err := json.Marshal(order)
	if err != nil {
		return err
	}
	if len(body) > maxOrder {
		return &Refused{[]Problem{{Text: "is larger than 1 MiB"}}}
	}
	resp, err := c.do(ctx, http.MethodPost, "/v1/faults", body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusBadRequest:
		refused := &Refused{}
		if err := json.NewDecoder(io.LimitReader(resp.Body, maxInfo)).Decode(refused); err != nil || len(refused.Problems) == 0 {
			return fmt.Errorf("%s: refused, without a word", c.place)
		}
		return refused
	default:
		return c.problem(resp)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var line Line
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return fmt.Errorf("%s: %w", c.place, err)
		}
		heard(line)
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s: the harness went away: %w", c.place, err)
	}
	return nil
}

// Heal heals a fault before its time; its Inject ends as ever.
func (c *Client) Heal(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	resp, err := c.do(ctx, http.MethodDelete, "/v1/faults/"+url.PathEscape(name), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		return c.problem(resp)
	}
	return nil
}

func (c *Client) do(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://harness"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unheard(err)
	}
	return resp, nil
}

// problem is an answer that says what is wrong in plain text.
func (c *Client) problem(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10)) // what there is of it
	return fmt.Errorf("%s: %s: %s", c.place, resp.Status, strings.TrimSpace(string(text)))
}
