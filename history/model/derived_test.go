package model

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestDerived(t *testing.T) {
	for _, c := range []struct {
		entity, name, args string
		want               string
	}{
		{"transfer", "run", `{"to":"b","amount":7}`, `
o/1 account/k debit {"to":"b","amount":7} required true after 0s
o/2 account/b credit {"amount":7} required true after 0s
o/3 account/k settle {"transfer":"o"} required true after 0s`},
		{"transfer", "run", `{"to":"k","amount":7}`, ``},
		{"transfer", "run", `{"to":"b","amount":0}`, ``},
		{"transfer", "run", `{"to":"b"}`, ``},
		{"transfer", "get", `{}`, ``},
		{"account", "run", `{"to":"b","amount":7}`, ``},
		{"approval", "submit", `{"by":"u","deadline_ms":1500}`, `
o/deadline approval/k expire {} required false after 1.5s`},
		{"approval", "submit", `{"by":"u","deadline_ms":0}`, ``},
		{"approval", "approve", `{"by":"u"}`, ``},
		{"board", "submit", `{"player":"p","score":1}`, ``},
	} {
		var got strings.Builder
		for _, e := range Derived(c.entity, "k", c.name, json.RawMessage(c.args), "o") {
			fmt.Fprintf(&got, "\n%s %s/%s %s %s required %v after %v", e.ID, e.Entity, e.Key, e.Name, e.Args, e.Required, e.After)
		}
		if got.String() != c.want {
			t.Errorf("%s %s %s:%s\nwant %s", c.entity, c.name, c.args, got.String(), c.want)
		}
	}
	if e := Derived("approval", "k", "submit", json.RawMessage(`{"by":"u","deadline_ms":9223372036854775807}`), "o"); e[0].After < 292*365*24*time.Hour/2 {
		t.Errorf("a deadline beyond what can be counted: %v", e[0].After)
	}
}

func TestAnswers(t *testing.T) {
	for _, c := range []struct{ entity, name, args, want string }{
		{"transfer", "run", `{"to":"b","amount":7}`, `{"paid":7} {"rejected":"insufficient funds"}`},
		{"transfer", "run", `{"to":"k","amount":7}`, `{"rejected":"same account"}`},
		{"transfer", "run", `{"to":"b","amount":0}`, `error transfer run: args: amount: 0 is less than 1`},
		{"transfer", "get", `{}`, `error transfer: unknown operation "get"; have transfer run`},
		{"account", "get", `{}`, `error account: unknown operation "get"; have transfer run`},
	} {
		answers, err := Answers(c.entity, "k", c.name, json.RawMessage(c.args))
		var got []string
		for _, a := range answers {
			got = append(got, string(a))
		}
		if err != nil {
			got = []string{"error " + err.Error()}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s %s %s: %v, want %s", c.entity, c.name, c.args, got, c.want)
		}
	}
}

// An action has no state, and what it causes happens to entities that have one.
func TestActionsHaveNoModel(t *testing.T) {
	if _, ok := For(transferAction); ok || !Action(transferAction) {
		t.Errorf("%s: a model of it %v, an action %v", transferAction, ok, Action(transferAction))
	}
	for entity := range entities {
		if Action(entity) {
			t.Errorf("%s is an action and has a model", entity)
		}
	}
}

// TestMoneyIsConserved runs transfers between accounts, their effects
// interleaved as a system may interleave them. No money comes from nowhere at
// any instant, and none is missing when all are done.
func TestMoneyIsConserved(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keys := []string{"a", "b", "c"}
		accounts := map[string]State{}
		for _, k := range keys {
			accounts[k] = newAccount()
		}
		sum := func() (balance int64, pending int) {
			for _, k := range keys {
				a := accounts[k].(*account)
				if a.balance < 0 {
					t.Fatalf("account %s: balance %d", k, a.balance)
				}
				balance, pending = balance+a.balance, pending+len(a.pending)
			}
			return balance, pending
		}
		total := int64(len(keys) * openingBalance)

		var open [][]Effect // of each transfer, what is still to happen
		var inFlight int64
		for n := range rapid.IntRange(1, 30).Draw(t, "transfers") {
			args := fmt.Sprintf(`{"to":%q,"amount":%d}`, rapid.SampledFrom(keys).Draw(t, "to"), rapid.IntRange(1, 800).Draw(t, "amount"))
			open = append(open, Derived(transferAction, rapid.SampledFrom(keys).Draw(t, "from"), "run", json.RawMessage(args), fmt.Sprintf("t%d", n)))
			open = slices.DeleteFunc(open, func(e []Effect) bool { return len(e) == 0 })
			for len(open) > 0 && rapid.IntRange(0, 3).Draw(t, "go on") > 0 {
				inFlight += next(t, accounts, open, rapid.IntRange(0, len(open)-1).Draw(t, "which"))
				open = slices.DeleteFunc(open, func(e []Effect) bool { return len(e) == 0 })
				if balance, _ := sum(); balance+inFlight != total {
					t.Fatalf("%d in accounts and %d between them, of %d", balance, inFlight, total)
				}
			}
		}
		for len(open) > 0 {
			inFlight += next(t, accounts, open, 0)
			open = slices.DeleteFunc(open, func(e []Effect) bool { return len(e) == 0 })
		}
		if balance, pending := sum(); balance != total || pending != 0 || inFlight != 0 {
			t.Fatalf("%d in accounts of %d, %d transfers pending", balance, total, pending)
		}
	})
}

// next lets the next effect of a transfer happen, and returns by how much that
// changes what is between accounts.
func next(t *rapid.T, accounts map[string]State, open [][]Effect, i int) int64 {
	e := open[i][0]
	before := accounts[e.Key].(*account).balance
	result, wrote, err := accounts[e.Key].Apply(e.Name, e.Args, e.ID)
	switch {
	case err != nil:
		t.Fatalf("%s: %v", e.ID, err)
	case wrote:
		open[i] = open[i][1:]
	case e.Name == "debit":
		open[i] = nil // refused: nothing else happens
	default:
		t.Fatalf("%s %s was refused: %s", e.Name, e.ID, result)
	}
	return before - accounts[e.Key].(*account).balance
}

// TestRanks: ranks agree with the order of top, players of equal scores share
// one, and a best score never falls.
func TestRanks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newBoard()
		best := map[string]int64{}
		for range rapid.IntRange(1, 40).Draw(t, "submissions") {
			player := fmt.Sprintf("p%02d", rapid.IntRange(0, 14).Draw(t, "player"))
			score := rapid.Int64Range(0, 6).Draw(t, "score")
			best[player] = max(best[player], score)
			result, wrote, err := b.Apply("submit", json.RawMessage(fmt.Sprintf(`{"player":%q,"score":%d}`, player, score)), "")
			var got struct {
				Best int64
				Rank int
			}
			if err != nil || !wrote || json.Unmarshal(result, &got) != nil || got.Best != best[player] {
				t.Fatalf("%s has %d: %s, %v, %v", player, best[player], result, wrote, err)
			}
			list, _, err := b.Apply("top", nil, "")
			var top struct {
				Top []struct {
					Player string
					Score  int64
				}
			}
			if err != nil || json.Unmarshal(list, &top) != nil || len(top.Top) != min(len(best), 10) {
				t.Fatalf("top of %d players: %s, %v", len(best), list, err)
			}
			for i, s := range top.Top {
				if best[s.Player] != s.Score {
					t.Fatalf("%s has %d: %s", s.Player, best[s.Player], list)
				}
				if i > 0 && (top.Top[i-1].Score < s.Score || top.Top[i-1].Score == s.Score && top.Top[i-1].Player >= s.Player) {
					t.Fatalf("not in order: %s", list)
				}
			}
			// The first of the player's score on the list stands at its rank.
			if i := slices.IndexFunc(top.Top, func(s struct {
				Player string
				Score  int64
			}) bool {
				return s.Score == got.Best
			}); i >= 0 && i != got.Rank-1 || i < 0 && got.Rank <= 10 {
				t.Fatalf("%s with %d has rank %d: %s", player, got.Best, got.Rank, list)
			}
		}
	})
}
