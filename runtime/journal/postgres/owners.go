package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"statequake/runtime/journal"
)

const viewSQL = `
SELECT true, shard, node, epoch, released, next FROM shard_owner
UNION ALL
SELECT false, 0, node, beat, false, addr FROM member`

// View reads both tables in one statement, which sees one snapshot. Whatever was
// acknowledged before it began is in it, since only the primary is asked.
func (s *Store) View(ctx context.Context) (journal.View, error) {
	v := journal.View{Owners: map[int]journal.Owner{}, Members: map[string]journal.Member{}}
	var isOwner, released bool
	var shard int
	var node, other string
	var revision int64
	err := s.urgent.rows(ctx, []any{&isOwner, &shard, &node, &revision, &released, &other}, func() {
		if isOwner {
			v.Owners[shard] = journal.Owner{Node: node, Released: released, Next: other, Revision: revision}
		} else {
			v.Members[node] = journal.Member{Addr: other, Revision: revision}
		}
	}, viewSQL)
	if err != nil {
		return journal.View{}, fmt.Errorf("read owners: %w", err)
	}
	s.heard()
	return v, nil
}

// Beat counts the member's row up.
func (s *Store) Beat(ctx context.Context, node, addr string) error {
	_, err := s.urgent.exec(ctx, `
		INSERT INTO member AS m (node, addr, beat) VALUES ($1, $2, 1)
		ON CONFLICT (node) DO UPDATE SET addr = excluded.addr, beat = m.beat + 1`, node, addr)
	if err != nil {
		return fmt.Errorf("beat of %s: %w", node, err)
	}
	s.heard()
	return nil
}

const (
	firstClaimSQL = `
WITH claimed AS (
	INSERT INTO shard_owner (shard, node, epoch) VALUES ($1, $2, 1)
	ON CONFLICT (shard) DO NOTHING RETURNING epoch
)
SELECT epoch, pg_notify($3, '') FROM claimed`

	claimSQL = `
WITH claimed AS (
	UPDATE shard_owner SET node = $2, epoch = epoch + 1, released = false, next = ''
	WHERE shard = $1 AND epoch = $4 RETURNING epoch
)
SELECT epoch, pg_notify($3, '') FROM claimed`

	releaseSQL = `
WITH ended AS (
	UPDATE shard_owner SET node = $2, epoch = epoch + 1, released = true, next = $5
	WHERE shard = $1 AND epoch = $4 AND NOT released RETURNING epoch
)
SELECT epoch, pg_notify($3, '') FROM ended`
)

// Claim counts the epoch up. The update waits for appends that hold the row.
func (s *Store) Claim(ctx context.Context, shard int, seen int64, node string) (epoch int64, won bool, err error) {
	sql, args := firstClaimSQL, []any{shard, node, s.channel()}
	if seen != 0 {
		sql, args = claimSQL, append(args, seen)
	}
	if err = s.urgent.rows(ctx, []any{&epoch, nil}, func() { won = true }, sql, args...); err != nil {
		return 0, false, fmt.Errorf("claim shard %d: %w", shard, err)
	}
	return epoch, won, nil
}

// Release counts the epoch up too, so that it is over.
func (s *Store) Release(ctx context.Context, shard int, epoch int64, node, next string) error {
	if _, err := s.urgent.exec(ctx, releaseSQL, shard, node, s.channel(), epoch, next); err != nil {
		return fmt.Errorf("release shard %d: %w", shard, err)
	}
	return nil
}

// channel is the name under which changes of owners are announced.
func (s *Store) channel() string { return s.cfg.schema + "_owners" }

// WatchOwners listens on a connection of its own, and connects again when it is lost.
func (s *Store) WatchOwners(ctx context.Context, changed chan<- struct{}) {
	pause := firstPause
	for ctx.Err() == nil {
		if s.listen(ctx, changed) {
			pause = firstPause
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, longestPause)
	}
}

// listen reports whether it could listen for a while.
func (s *Store) listen(ctx context.Context, changed chan<- struct{}) bool {
	conn, err := pgx.ConnectConfig(ctx, s.cfg.conn)
	if err != nil {
		return false
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, "LISTEN "+s.channel()); err != nil {
		return false
	}
	for {
		// The first look is for what changed before the server listened.
		select {
		case changed <- struct{}{}:
		default:
		}
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return true
		}
	}
}
