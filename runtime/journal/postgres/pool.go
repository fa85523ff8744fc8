package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// pool is a bounded number of connections, made when they are needed. One whose
// answer was given up is closed, and one that rested is tried with a ping.
type pool struct{ conns *pgxpool.Pool }

func newPool(config *pgx.ConnConfig, size int32) (pool, error) {
	c, err := pgxpool.ParseConfig("")
	if err != nil {
		return pool{}, fmt.Errorf("store: %w", err)
	}
	c.ConnConfig, c.MaxConns, c.PingTimeout = config.Copy(), size, dialTimeout
	conns, err := pgxpool.NewWithConfig(context.Background(), c) // connects to nobody yet
	if err != nil {
		return pool{}, fmt.Errorf("store: %w", err)
	}
	return pool{conns}, nil
}

// close waits until all connections are given back.
func (p pool) close() { p.conns.Close() }

// rows runs a query and calls each after every row has been scanned into dest.
// The query has succeeded only if there is no error.
func (p pool) rows(ctx context.Context, dest []any, each func(), sql string, args ...any) error {
	rows, err := p.conns.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	_, err = pgx.ForEachRow(rows, dest, func() error { each(); return nil })
	return err
}

// exec runs a statement and returns the number of rows that it changed.
func (p pool) exec(ctx context.Context, sql string, args ...any) (int64, error) {
	tag, err := p.conns.Exec(ctx, sql, args...)
	return tag.RowsAffected(), err
}
