package postgres

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"statequake/runtime/journal"
	"statequake/runtime/journal/journaltest"
	"statequake/runtime/journal/postgres/pgtest"
)

var _ journal.Store = (*Store)(nil)

func open(t testing.TB, url string) *Store {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	s, err := Open(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func TestConformance(t *testing.T) {
	server := pgtest.Start(t)
	journaltest.Run(t, func(t *testing.T) []journal.Store {
		return []journal.Store{open(t, server.URL("")), open(t, server.URL("")), open(t, server.URL(""))}
	})
}

// run executes a statement outside of any store.
func run(t *testing.T, server pgtest.Server, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), server.URL(""))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

func mustClaim(t *testing.T, s *Store, shard int, seen int64) int64 {
	t.Helper()
	epoch, won, err := s.Claim(t.Context(), shard, seen, "n")
	if err != nil || !won {
		t.Fatalf("claim at %d: won %t, %v", seen, won, err)
	}
	return epoch
}

func TestSchema(t *testing.T) {
	server := pgtest.Start(t)
	t.Run("several clusters", func(t *testing.T) {
		a, b := open(t, server.URL("schema=a")), open(t, server.URL("schema=b"))
		mustClaim(t, a, 0, 0)
		mustClaim(t, b, 0, 0)
		if v, err := b.View(t.Context()); err != nil || len(v.Owners) != 1 || v.Owners[0].Revision != 1 {
			t.Errorf("view %+v, %v", v, err)
		}
	})
	t.Run("nodes start at once", func(t *testing.T) {
		errs := make(chan error)
		for range 5 {
			go func() {
				s, err := Open(t.Context(), server.URL("schema=together"))
				if err == nil {
					s.Close()
				}
				errs <- err
			}()
		}
		for range 5 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("newer", func(t *testing.T) {
		open(t, server.URL("schema=newer"))
		run(t, server, "INSERT INTO newer.schema_version (version) VALUES (99)")
		_, err := Open(t.Context(), server.URL("schema=newer"))
		if err == nil || !strings.Contains(err.Error(), "schema newer has version 99: this program knows versions up to 1") {
			t.Errorf("open: %v", err)
		}
	})
	t.Run("upgrade", func(t *testing.T) {
		ctx := t.Context()
		conn, err := pgx.Connect(ctx, server.URL("search_path=steps"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.WithoutCancel(ctx))
		steps := []string{"CREATE TABLE a (n integer)", "INSERT INTO a VALUES (1); INSERT INTO a VALUES (2)", "INSERT INTO a VALUES (3)"}
		for _, known := range []int{1, 1, 3, 3} {
			if err := migrate(ctx, conn, "steps", steps[:known]); err != nil {
				t.Fatal(err)
			}
		}
		broken := append(steps, "INSERT INTO a VALUES (4)", "nonsense")
		if err := migrate(ctx, conn, "steps", broken); err == nil || !strings.Contains(err.Error(), "upgrade schema steps to version 5") {
			t.Errorf("a step that fails: %v", err)
		}
		var rows, version int
		if err := conn.QueryRow(ctx, "SELECT (SELECT count(*) FROM a), (SELECT max(version) FROM schema_version)").Scan(&rows, &version); err != nil {
			t.Fatal(err)
		}
		if rows != 3 || version != 3 {
			t.Errorf("%d rows at version %d, want each step once and none of a failed upgrade: 3 and 3", rows, version)
		}
	})
}

func TestRefused(t *testing.T) {
	server := pgtest.Start(t)
	for _, tt := range []struct{ url, want string }{
		{"mysql://x", "not a URL postgres://"},
		{server.URL("schema=A-b"), `schema "A-b"`},
		{server.URL("synchronous_commit=off"), "synchronous_commit=off: must be on"},
		{strings.Replace(server.URL(""), "/postgres?", "/none?", 1), `database "none" does not exist`},
	} {
		_, err := Open(t.Context(), tt.url)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.url, err, tt.want)
		}
	}
	// A default of the role does not weaken what the session asks for.
	run(t, server, "ALTER ROLE postgres SET synchronous_commit = off")
	open(t, server.URL(""))

	run(t, server, "ALTER SYSTEM SET fsync = off")
	run(t, server, "SELECT pg_reload_conf()")
	deadline := time.Now().Add(20 * time.Second)
	for {
		s, err := Open(t.Context(), server.URL(""))
		if err != nil {
			if !strings.Contains(err.Error(), "fsync=off") {
				t.Errorf("fsync=off: %v", err)
			}
			break
		}
		s.Close()
		if time.Now().After(deadline) {
			t.Fatal("a server with fsync=off is still accepted")
		}
	}
	open(t, server.URL("allow_fsync_off=true"))
}

func BenchmarkAppend(b *testing.B) {
	s := open(b, pgtest.Start(b).URL(""))
	for _, size := range []int{1 << 10, 64 << 10} {
		b.Run(fmt.Sprint(size>>10, "KiB"), func(b *testing.B) { journaltest.BenchmarkAppend(b, s, size) })
	}
}
