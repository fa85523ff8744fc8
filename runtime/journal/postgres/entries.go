package postgres

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"statequake/runtime/journal"
)

// In all of these the lock comes first and what depends on it after: a row of
// held exists only once its lock is held, and its epoch is compared again with
// the row as it is then. See DESIGN.md.
const (
	appendSQL = `
WITH input AS (
	SELECT * FROM unnest($1::integer[], $2::bigint[], $3::bigint[], $4::bytea[]) AS i (shard, epoch, seq, data)
), held AS (
	SELECT i.shard, i.seq, i.epoch, i.data
	FROM shard_owner o JOIN input i ON o.shard = i.shard AND o.epoch = i.epoch AND o.cut < i.seq AND NOT o.released
	FOR SHARE OF o
)
INSERT INTO journal_entry (shard, seq, epoch, data)
SELECT shard, seq, epoch, data FROM held
ON CONFLICT (shard, seq) DO NOTHING
RETURNING shard`

	unfencedSQL = `
INSERT INTO journal_entry (shard, seq, epoch, data)
SELECT i.shard, i.seq, i.epoch, i.data
FROM unnest($1::integer[], $2::bigint[], $3::bigint[], $4::bytea[]) AS i (shard, epoch, seq, data)
ON CONFLICT (shard, seq) DO UPDATE SET epoch = excluded.epoch, data = excluded.data
RETURNING shard`

	// The lock makes the answer wait until everything that it tells of is
	// durable, on synchronous replicas too: a lock is logged, and the commit of
	// what is logged waits for all that was logged before.
	readBackSQL = `
SELECT o.shard, o.epoch, o.released, e.epoch, e.data
FROM shard_owner o
JOIN unnest($1::integer[], $2::bigint[]) AS i (shard, seq) ON o.shard = i.shard
LEFT JOIN journal_entry e ON e.shard = i.shard AND e.seq = i.seq
FOR SHARE OF o`
)

// Append writes all groups with one statement; those that are refused do not
// hold up the others. Only what was refused is read back.
func (s *Store) Append(ctx context.Context, groups []journal.Append, fenced bool) []journal.Fate {
	fates := make([]journal.Fate, len(groups))
	open := make([]int, len(groups))
	for i := range groups {
		open[i] = i
	}
	pause := firstPause
	for len(open) > 0 && ctx.Err() == nil {
		n := 0
		for size := 0; n < len(open) && (n == 0 || size+len(groups[open[n]].Data) <= maxBatch); n++ {
			size += len(groups[open[n]].Data)
		}
		attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
		err := s.appendOnce(attempt, groups, open[:n], fates, fenced)
		cancel()
		rest := make([]int, 0, len(open))
		for _, i := range open {
			if fates[i] == journal.Undecided {
				rest = append(rest, i)
			}
		}
		if err == nil && len(rest) < len(open) {
			pause = firstPause
		} else {
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			pause = min(2*pause, longestPause)
		}
		open = rest
	}
	return fates
}

// appendOnce tries the groups of batch once and sets the fates that it learns.
func (s *Store) appendOnce(ctx context.Context, groups []journal.Append, batch []int, fates []journal.Fate, fenced bool) error {
	var shards []int32
	var epochs, seqs []int64
	var data [][]byte
	index := map[int]int{} // shard -> position in groups
	for _, i := range batch {
		g := groups[i]
		shards, epochs, seqs = append(shards, int32(g.Shard)), append(epochs, g.Epoch), append(seqs, g.Seq)
		data = append(data, nonNil(g.Data))
		index[g.Shard] = i
	}
	sql := appendSQL
	if !fenced {
		sql = unfencedSQL
	}
	var shard int
	var written []int
	err := s.urgent.rows(ctx, []any{&shard}, func() { written = append(written, shard) }, sql, shards, epochs, seqs, data)
	if err != nil {
		return err // rows that came before the commit failed prove nothing
	}
	s.heard()
	for _, shard := range written {
		fates[index[shard]] = journal.Durable
	}
	if len(written) == len(batch) {
		return nil
	}
	return s.readBack(ctx, groups, batch, fates)
}

// readBack decides about the groups of batch that a statement did not write.
func (s *Store) readBack(ctx context.Context, groups []journal.Append, batch []int, fates []journal.Fate) error {
	var shards []int32
	var seqs []int64
	index := map[int]int{}
	for _, i := range batch {
		if fates[i] == journal.Undecided {
			shards, seqs = append(shards, int32(groups[i].Shard)), append(seqs, groups[i].Seq)
			index[groups[i].Shard] = i
		}
	}
	found := map[int]journal.Fate{}
	var shard int
	var epoch int64
	var released bool
	var by *int64
	var stands []byte
	err := s.urgent.rows(ctx, []any{&shard, &epoch, &released, &by, &stands}, func() {
		g := groups[index[shard]]
		switch {
		case by != nil && *by == g.Epoch && bytes.Equal(stands, g.Data):
			found[shard] = journal.Durable // by an earlier attempt
		case by != nil, epoch != g.Epoch, released:
			found[shard] = journal.Deposed
		default:
			found[shard] = journal.Undecided // an attempt was in its way, and failed
		}
	}, readBackSQL, shards, seqs)
	if err != nil {
		return err
	}
	for shard, i := range index {
		fate, owned := found[shard]
		if !owned {
			fate = journal.Deposed
		}
		fates[i] = fate
	}
	return nil
}

// Tail reads head and entries in one statement, which sees one snapshot.
func (s *Store) Tail(ctx context.Context, shard int) (head []byte, entries [][]byte, err error) {
	var entry bool
	var seq int64
	var data []byte
	err = s.bulk.rows(ctx, []any{&entry, &seq, &data}, func() {
		if entry {
			entries = append(entries, data)
		} else {
			head = data
		}
		data = nil // the next row gets memory of its own
	}, `
		SELECT false AS entry, 0::bigint AS seq, head AS data FROM journal_head WHERE shard = $1 AND head IS NOT NULL
		UNION ALL
		SELECT true, seq, data FROM journal_entry WHERE shard = $1
		ORDER BY entry, seq`, shard)
	if err != nil {
		return nil, nil, fmt.Errorf("read journal of shard %d: %w", shard, err)
	}
	return head, entries, nil
}

const (
	storeSQL = `
WITH held AS (
	SELECT shard FROM shard_owner WHERE shard = $1 AND epoch = $2 AND NOT released FOR SHARE
), turned AS (
	INSERT INTO journal_head AS h (shard, epoch, turn) SELECT shard, $2, $3 FROM held
	ON CONFLICT (shard) DO UPDATE SET epoch = excluded.epoch, turn = excluded.turn
	WHERE (h.epoch, h.turn) < (excluded.epoch, excluded.turn)
	RETURNING shard
)
INSERT INTO checkpoint (shard, type, key, data)
SELECT t.shard, i.type, i.key, i.data FROM turned t, unnest($4::bytea[], $5::bytea[], $6::bytea[]) AS i (type, key, data)
ON CONFLICT (shard, type, key) DO UPDATE SET data = excluded.data`

	cutSQL = `
WITH held AS (
	UPDATE shard_owner SET cut = greatest(cut, $4) WHERE shard = $1 AND epoch = $2 AND NOT released RETURNING shard
), turned AS (
	INSERT INTO journal_head AS h (shard, epoch, turn, head) SELECT shard, $2, $3, $5 FROM held
	ON CONFLICT (shard) DO UPDATE SET epoch = excluded.epoch, turn = excluded.turn, head = excluded.head
	WHERE (h.epoch, h.turn) < (excluded.epoch, excluded.turn)
	RETURNING shard
), gone AS (
	DELETE FROM journal_entry e USING turned t WHERE e.shard = t.shard AND e.seq <= $4
)
SELECT shard FROM turned`
)

// Store writes up to 4 MiB of checkpoints with one statement.
func (s *Store) Store(ctx context.Context, shard int, epoch int64, checkpoints []journal.Checkpoint) error {
	for len(checkpoints) > 0 {
		var types, keys, data [][]byte
		n := 0
		for size := 0; n < len(checkpoints) && (n == 0 || size+len(checkpoints[n].Data) <= maxBatch); n++ {
			c := checkpoints[n]
			size += len(c.Data)
			types, keys, data = append(types, []byte(c.Type)), append(keys, []byte(c.Key)), append(data, nonNil(c.Data))
		}
		written, err := s.bulk.exec(ctx, storeSQL, shard, epoch, s.turn.Add(1), types, keys, data)
		if err == nil && written == 0 {
			err = journal.ErrDeposed
		}
		if err != nil {
			return fmt.Errorf("checkpoint shard %d: %w", shard, err)
		}
		checkpoints = checkpoints[n:]
	}
	return nil
}

// Cut notes the head and removes the entries with one statement.
func (s *Store) Cut(ctx context.Context, shard int, epoch, seq int64, head []byte) error {
	done := false
	err := s.bulk.rows(ctx, []any{nil}, func() { done = true }, cutSQL, shard, epoch, s.turn.Add(1), seq, nonNil(head))
	if err == nil && !done {
		err = journal.ErrDeposed
	}
	if err != nil {
		return fmt.Errorf("cut journal of shard %d: %w", shard, err)
	}
	return nil
}

// Load reads one checkpoint.
func (s *Store) Load(ctx context.Context, shard int, typ, key string) ([]byte, error) {
	var data []byte
	err := s.bulk.rows(ctx, []any{&data}, func() {}, "SELECT data FROM checkpoint WHERE shard = $1 AND type = $2 AND key = $3",
		shard, []byte(typ), []byte(key))
	if err != nil {
		return nil, fmt.Errorf("load %s/%s: %w", typ, key, err)
	}
	return data, nil
}

// nonNil makes no bytes an empty value and not NULL.
func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
