// Package postgres keeps the store of the runtime in a PostgreSQL database.
// DESIGN.md says why its statements are what they are.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"statequake/runtime/journal"
)

const (
	defaultSchema    = "statequake"
	urgentConns      = 4 // views, beats, claims, releases and appends do not queue behind
	bulkConns        = 6 // loads, checkpoints, cuts and tails
	dialTimeout      = time.Second
	closeTimeout     = time.Second // of a connection whose answer was given up
	openTimeout      = 30 * time.Second
	statementTimeout = 10 * time.Second // of the server, should this node be gone
	attemptTimeout   = 2 * time.Second  // of an append
	firstPause       = 20 * time.Millisecond
	longestPause     = 500 * time.Millisecond
	statusEvery      = 10 * time.Second
	downAfter        = time.Second // without an answer
	maxBatch         = 4 << 20     // bytes of one statement, at least one group or checkpoint
)

// Store is one node's handle; it is a journal.Store.
type Store struct {
	cfg     config
	urgent  pool
	bulk    pool
	turn    atomic.Int64 // of the last checkpoint or cut; see DESIGN.md
	size    atomic.Int64
	sizedAt atomic.Int64 // Unix nanoseconds
	heardAt atomic.Int64 // Unix nanoseconds of the last answer to an urgent request
}

// config is what a DSN says.
type config struct {
	conn         *pgx.ConnConfig
	schema       string
	allowNoFsync bool
}

// refused wraps what makes the start futile until somebody changes something.
type refused struct{ error }

func (r refused) Unwrap() error { return r.error }

var schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,47}$`)

// parse reads a DSN: a URL as PostgreSQL defines it, with two parameters of our
// own: schema and allow_fsync_off.
func parse(dsn string) (config, error) {
	u, err := url.Parse(dsn)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return config{}, errors.New("store: not a URL postgres://USER:PASSWORD@HOST:PORT/DATABASE")
	}
	q := u.Query()
	c := config{schema: defaultSchema, allowNoFsync: q.Get("allow_fsync_off") == "true"}
	if q.Has("schema") {
		c.schema = q.Get("schema")
	}
	if !schemaName.MatchString(c.schema) {
		return config{}, fmt.Errorf("store: schema %q: must be up to 48 lower-case letters, digits and underscores", c.schema)
	}
	q.Del("schema")
	q.Del("allow_fsync_off")
	u.RawQuery = q.Encode()
	if c.conn, err = pgx.ParseConfig(u.String()); err != nil {
		return config{}, fmt.Errorf("store: %w", err)
	}
	params := c.conn.RuntimeParams
	switch params["synchronous_commit"] {
	case "":
		params["synchronous_commit"] = "on"
	case "on", "remote_apply":
	default:
		return config{}, fmt.Errorf("store: synchronous_commit=%s: must be on or remote_apply", params["synchronous_commit"])
	}
	params["search_path"] = c.schema
	params["default_transaction_isolation"] = "read committed"
	params["statement_timeout"] = fmt.Sprint(statementTimeout.Milliseconds())
	params["idle_in_transaction_session_timeout"] = params["statement_timeout"]
	if params["application_name"] == "" {
		params["application_name"] = "statequake"
	}
	c.conn.ConnectTimeout = 2 * dialTimeout
	c.conn.DialFunc = dial
	// Of several hosts only the primary will do, whatever the URL prefers.
	c.conn.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	c.conn.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error { return c.check(ctx, conn) }
	return c, nil
}

// dial connects so that what was given up is gone soon: the client waits for the
// end of a connection as long as its deadline allows.
func dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	conn, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return hasty{conn}, nil
}

// hasty is a connection without far deadlines.
type hasty struct{ net.Conn }

func (h hasty) SetDeadline(t time.Time) error {
	if soon := time.Now().Add(closeTimeout); t.After(soon) {
		t = soon
	}
	return h.Conn.SetDeadline(t)
}

// check refuses servers that do not keep what they acknowledge, or that are not
// the primary.
func (c config) check(ctx context.Context, conn *pgconn.PgConn) error {
	r := conn.ExecParams(ctx, "SELECT pg_is_in_recovery(), coalesce(current_setting('fsync', true), 'on'), current_setting('synchronous_commit')", nil, nil, nil, nil).Read()
	if r.Err != nil {
		return fmt.Errorf("look at the server's settings: %w", r.Err)
	}
	recovery, fsync, commit := string(r.Rows[0][0]), string(r.Rows[0][1]), string(r.Rows[0][2])
	switch {
	case recovery != "f":
		return errors.New("the server is a replica: its answers may be old")
	case fsync != "on" && !c.allowNoFsync:
		return refused{errors.New("the server runs with fsync=off: a power loss takes back what it acknowledged\nhint: set fsync=on, or add allow_fsync_off=true to the URL of the store")}
	case commit != "on" && commit != "remote_apply":
		return refused{fmt.Errorf("the server changed synchronous_commit to %s: a crash may take back what it acknowledged\nhint: a connection pooler that drops startup parameters does this; connect to the server itself", commit)}
	}
	return nil
}

// Open connects, creates or upgrades the schema, and returns a handle. dsn is
// the URL of a database; the same on every node. Its parameters may be those of
// PostgreSQL and
//
//	schema=NAME           where the tables are, "statequake" by default: one database holds several clusters
//	allow_fsync_off=true  use a server that does not keep what it acknowledged
//
// Open tries for 30 s to reach a server that does not answer.
func Open(ctx context.Context, dsn string) (*Store, error) {
	cfg, err := parse(dsn)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		err := prepare(ctx, cfg)
		if err == nil {
			break
		}
		var futile refused
		if errors.As(err, &futile) || denied(err) {
			return nil, fmt.Errorf("store: %w", err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, fmt.Errorf("store: not reached within %v: %w", openTimeout, err)
		}
	}
	s := &Store{cfg: cfg}
	if s.urgent, err = newPool(cfg.conn, urgentConns); err != nil {
		return nil, err
	}
	if s.bulk, err = newPool(cfg.conn, bulkConns); err != nil {
		return nil, err
	}
	s.heard()
	return s, nil
}

// prepare brings the schema up to date.
func prepare(ctx context.Context, cfg config) error {
	conn, err := pgx.ConnectConfig(ctx, cfg.conn)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	steps, err := migrations()
	if err != nil {
		return refused{err}
	}
	return migrate(ctx, conn, cfg.schema, steps)
}

// denied tells whether the server understood and said no: another attempt
// would be told the same. Class 28 is authorization, 3D an unknown database, 42
// missing rights and SQL it does not know (PostgreSQL manual, appendix A).
func denied(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (strings.HasPrefix(pg.Code, "28") || strings.HasPrefix(pg.Code, "3D") || strings.HasPrefix(pg.Code, "42"))
}

// Close ends all connections.
func (s *Store) Close() {
	s.urgent.close()
	s.bulk.close()
}

// Failed never delivers: a server that is gone may come back.
func (s *Store) Failed() <-chan error { return nil }

// Status is Up while the server has answered within the last second.
func (s *Store) Status() journal.Status {
	size := s.size.Load()
	up := time.Since(time.Unix(0, s.heardAt.Load())) < downAfter
	return journal.Status{Up: up, Size: size, Used: size}
}

func (s *Store) heard() { s.heardAt.Store(time.Now().UnixNano()) }

// Maintain measures the tables. Their dead rows are left to autovacuum.
func (s *Store) Maintain(ctx context.Context) error {
	if time.Since(time.Unix(0, s.sizedAt.Load())) < statusEvery {
		return nil
	}
	s.sizedAt.Store(time.Now().UnixNano())
	var size int64
	err := s.bulk.rows(ctx, []any{&size}, func() {}, `
		SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relkind = 'r'`, s.cfg.schema)
	if err != nil {
		return fmt.Errorf("measure the store: %w", err)
	}
	s.size.Store(size)
	return nil
}
