package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"syscall"
	"time"

	"statequake/runtime/core"
	"statequake/runtime/entity"
	"statequake/runtime/ownership"
)

// Headers of a command.
const (
	opHeader        = "Statequake-Op"
	forwardedHeader = "Statequake-Forwarded"
)

// retryPause is how long a command waits at most before it looks again for a
// node that can execute it.
const retryPause = 50 * time.Millisecond

// hasty is how long a planted bug waits for a command.
const hasty = 200 * time.Millisecond

// answer is the reply to a command, as it goes over HTTP.
type answer struct {
	status int
	body   reply
}

// reply is the JSON body of an answer.
type reply struct {
	Result  json.RawMessage `json:"result,omitempty"`
	Version int64           `json:"version"`
	Digest  string          `json:"digest,omitempty"`
	Epoch   int64           `json:"epoch,omitempty"`
	Node    string          `json:"node,omitempty"`
	Error   string          `json:"error,omitempty"`
	Effect  string          `json:"effect,omitempty"`
}

func refuse(status int, effect, format string, args ...any) answer {
	return answer{status: status, body: reply{Error: fmt.Sprintf(format, args...), Effect: effect}}
}

// misdirected is the answer to a forwarded command whose shard is not here.
const misdirected = http.StatusMisdirectedRequest

// execute has a command executed by the owner of its shard, here or elsewhere,
// and waits for an owner if there is none. A command carries its op through all
// attempts, so that it takes effect once.
func (n *Node) execute(ctx context.Context, c core.Command, forwarded bool) answer {
	end := time.Now().Add(deadline)
	if n.cfg.Bugs.FailedCommandApplied {
		end = time.Now().Add(hasty)
	}
	s := n.shards[ShardOf(c.ID.Type, c.ID.Key, n.cfg.Shards)]
	effect := "none" // until the command was handed to somebody who may have executed it
	for {
		r := n.routes.Load()
		owner := r.owners[s.id]
		s.mu.Lock()
		m := s.machine
		mine := s.epoch != 0
		old := s.past
		s.mu.Unlock()
		if m == nil && old != nil {
			if a, ok := n.remembered(s, old, c); ok {
				return a
			}
		}
		switch {
		case m != nil:
			rep, err := n.submit(ctx, end, s, m, c)
			switch {
			case err != nil && n.cfg.Bugs.FailedCommandApplied:
				return refuse(http.StatusGatewayTimeout, "none", "not written in time")
			case err != nil:
				return refuse(http.StatusGatewayTimeout, "unknown", "no reply within the deadline")
			case rep.Err == nil:
				return answer{http.StatusOK, reply{Result: rep.Result, Version: rep.Version, Digest: rep.Digest, Epoch: m.Epoch(), Node: n.cfg.Name}}
			case errors.Is(rep.Err, core.ErrMoved):
				effect = "unknown"
			case errors.Is(rep.Err, core.ErrBusy), errors.Is(rep.Err, core.ErrFull):
				return refuse(http.StatusServiceUnavailable, effect, "%v", rep.Err)
			case errors.Is(rep.Err, core.ErrTooLarge):
				return refuse(http.StatusRequestEntityTooLarge, "none", "%v", rep.Err)
			case errors.Is(rep.Err, core.ErrPanic):
				n.log.Error("handler", "type", c.ID.Type, "key", c.ID.Key, "err", rep.Err)
				return refuse(http.StatusInternalServerError, "none", "%s: %v", c.ID.Type, rep.Err)
			case !errors.Is(rep.Err, core.ErrLease):
				var unknown *entity.UnknownCommandError
				if errors.As(rep.Err, &unknown) {
					return refuse(http.StatusNotFound, "none", "%s: %v", c.ID.Type, rep.Err)
				}
				return refuse(http.StatusBadRequest, "none", "%v", rep.Err)
			}
		case mine, owner.Node == n.cfg.Name, owner.Released, owner.Node == "":
			// about to be served, here or elsewhere
		case forwarded:
			return refuse(misdirected, "none", "shard %d is not owned by %s", s.id, n.cfg.Name)
		default:
			a, fate := n.forward(ctx, end, r, s.id, c)
			switch fate {
			case answered:
				if a.status >= 500 && a.body.Effect == "none" {
					a.body.Effect = effect // an earlier attempt may have had one
				}
				return a
			case mayHaveRun:
				effect = "unknown"
			}
		}
		if r != n.routes.Load() {
			continue // newer routes came while the attempt was under way
		}
		kick(n.look)
		select {
		case <-r.changed:
			continue
		case <-time.After(retryPause):
			if time.Now().Before(end) {
				continue
			}
		case <-ctx.Done():
		}
		return refuse(http.StatusGatewayTimeout, effect, "shard %d has no owner that answers", s.id)
	}
}

// remembered answers a read from a shard that has moved, as a planted bug does.
func (n *Node) remembered(s *shard, old *core.Shard, c core.Command) (answer, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rep, ok := old.Remembered(c)
	return answer{http.StatusOK, reply{Result: rep.Result, Version: rep.Version, Digest: rep.Digest, Epoch: old.Epoch(), Node: n.cfg.Name}}, ok
}

// coreConfig is what the shards of this node need to know.
func (n *Node) coreConfig() core.Config {
	c := core.Config{
		Types: n.types, Memory: n.cfg.Memory, Window: n.cfg.Window, Lease: ownership.Lease, Bugs: n.cfg.Bugs,
		Wall: n.base.UnixNano(), MaxBytes: max(1, n.cfg.MaxBytes/int64(n.cfg.Shards)), Mailbox: n.cfg.Mailbox,
	}
	if n.cfg.MaxEntities > 0 {
		c.MaxEntities = max(1, n.cfg.MaxEntities/n.cfg.Shards)
	}
	return c
}

// waiter waits for the reply to one command. Making one anew for each command
// would be most of what a command allocates here.
type waiter struct {
	call  call
	timer *time.Timer
}

var waiters = sync.Pool{New: func() any {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return &waiter{make(call, 1), t}
}}

// submit runs a command on a shard that is served here.
func (n *Node) submit(ctx context.Context, end time.Time, s *shard, m *core.Shard, c core.Command) (core.Reply, error) {
	w := waiters.Get().(*waiter)
	c.Ticket = w.call
	s.mu.Lock()
	out := m.Submit(n.now(), c)
	pending := m.Pending()
	s.mu.Unlock()
	n.deliver(s, m, out)
	if pending {
		kick(n.flush)
	}
	select {
	case r := <-w.call:
		waiters.Put(w)
		return r, nil
	default:
	}
	w.timer.Reset(time.Until(end))
	select {
	case r := <-w.call:
		w.timer.Stop()
		waiters.Put(w) // only here: no other reply can come
		return r, nil
	case <-ctx.Done():
		return core.Reply{}, ctx.Err()
	case <-w.timer.C:
		return core.Reply{}, context.DeadlineExceeded
	}
}

type fate int

const (
	notRun     fate = iota // certainly not executed there
	mayHaveRun             // nobody knows
	answered
)

// forward sends a command to the owner that r names. It gives up when the
// shard gets another owner: the one it waits for may be paused, and a retry
// with the same op takes effect once.
func (n *Node) forward(ctx context.Context, end time.Time, r *routes, shard int, c core.Command) (answer, fate) {
	owner := r.owners[shard]
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	go func() {
		for seen := r; ; seen = n.routes.Load() {
			if seen.owners[shard].Revision != owner.Revision {
				cancel()
				return
			}
			select {
			case <-seen.changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	target := fmt.Sprintf("http://%s/v1/entities/%s/%s/%s", n.cfg.Members[owner.Node].API, url.PathEscape(c.ID.Type), url.PathEscape(c.ID.Key), url.PathEscape(c.Name))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(c.Args))
	if err != nil {
		return answer{}, notRun
	}
	req.Header.Set(opHeader, c.Op)
	req.Header.Set(forwardedHeader, n.cfg.Name)
	n.metrics.forwarded.Inc()
	resp, err := n.client.Do(req)
	if err != nil {
		if errors.Is(err, syscall.ECONNREFUSED) {
			return answer{}, notRun
		}
		return answer{}, mayHaveRun
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if err != nil {
		return answer{}, mayHaveRun
	}
	if resp.StatusCode == misdirected {
		return answer{}, mayHaveRun // taken there before it moved, perhaps
	}
	a := answer{status: resp.StatusCode}
	if err := json.Unmarshal(data, &a.body); err != nil {
		return answer{}, mayHaveRun
	}
	return a, answered
}
