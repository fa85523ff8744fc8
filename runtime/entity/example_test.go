package entity_test

import (
	"context"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"statequake/runtime/entity"
)

type counter struct {
	Value int64 `json:"value"`
}

type add struct {
	N int64 `json:"n"`
}

var counterType = entity.Value[counter]{
	Name: "counter",
	Commands: map[string]entity.Handler[counter]{
		"add": entity.Update(func(_ *entity.Context, c counter, a add) (counter, int64, error) {
			c.Value += a.N
			return c, c.Value, nil
		}),
		"get": entity.Query(func(c *counter, _ entity.None) (int64, error) {
			return c.Value, nil
		}),
	},
}.Type()

type account struct {
	entity.Witness
	Balance int64 `json:"balance"`
}

type amount struct {
	Cents int64 `json:"cents"`
}

var accountType = entity.EventSourced[account]{
	Name: "account",
	Commands: map[string]entity.Handler[account]{
		"deposit": entity.Decide(func(c *entity.Context, a *account, m amount) (int64, error) {
			c.Emit("deposited", m)
			return a.Balance + m.Cents, nil
		}),
		"withdraw": entity.Decide(func(c *entity.Context, a *account, m amount) (int64, error) {
			if m.Cents > a.Balance {
				return 0, entity.Refuse("not enough money")
			}
			c.Emit("withdrawn", m)
			return a.Balance - m.Cents, nil
		}),
	},
	Events: map[string]entity.Fold[account]{
		"deposited": entity.On(func(a *account, m amount) { a.Balance += m.Cents }),
		"withdrawn": entity.On(func(a *account, m amount) { a.Balance -= m.Cents }),
	},
}.Type()

type transfer struct {
	From  string `json:"from"`
	To    string `json:"to"`
	Cents int64  `json:"cents"`
}

var bank = entity.Action{
	Name: "bank",
	Commands: map[string]entity.ActionHandler{
		"transfer": entity.Do(func(ctx context.Context, c *entity.Calls, t transfer) (int64, error) {
			left, err := entity.Call[int64](ctx, c, "account", t.From, "withdraw", amount{t.Cents})
			if err != nil {
				return 0, err // refused, or to be tried again
			}
			_, err = entity.Call[int64](ctx, c, "account", t.To, "deposit", amount{t.Cents})
			return left, err
		}),
	},
}

type invoice struct {
	Paid, Overdue bool
}

var invoiceType = entity.EventSourced[invoice]{
	Name: "invoice",
	Commands: map[string]entity.Handler[invoice]{
		"send": entity.Decide(func(c *entity.Context, _ *invoice, _ entity.None) (string, error) {
			c.After("reminder", 14*24*time.Hour, "remind", nil)
			return "sent", nil
		}),
		"pay": entity.Decide(func(c *entity.Context, _ *invoice, _ entity.None) (string, error) {
			c.Cancel("reminder")
			c.Emit("paid", nil)
			return "paid", nil
		}),
		"remind": entity.Decide(func(c *entity.Context, i *invoice, _ entity.None) (string, error) {
			c.Emit("overdue", nil)
			return "reminded", nil
		}),
	},
	Events: map[string]entity.Fold[invoice]{
		"paid":    entity.On(func(i *invoice, _ entity.None) { i.Paid = true }),
		"overdue": entity.On(func(i *invoice, _ entity.None) { i.Overdue = true }),
	},
}.Type()

// TestReadme compares the code of the README with this file.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	if len(blocks) != 4 {
		t.Errorf("the README has %d blocks of Go, want 4", len(blocks))
	}
	for i, b := range blocks {
		if !strings.Contains(string(source), b[1]) {
			t.Errorf("block %d of the README does not stand in example_test.go as it is:\n%s", i+1, b[1])
		}
		if lines := strings.Count(b[1], "\n"); i == 0 && lines > 25 {
			t.Errorf("the smallest entity takes %d lines, want 25 at most", lines)
		}
	}
}

// TestExamples runs what the README shows.
func TestExamples(t *testing.T) {
	counter := &host{t: t, typ: counterType}
	counter.want("add", `{"n":2}`, `2`)
	counter.want("add", `{"n":3}`, `5`)
	counter.want("get", ``, `5`)

	accounts := map[string]*host{"a": {t: t, typ: accountType}, "b": {t: t, typ: accountType}}
	accounts["a"].want("deposit", `{"cents":100}`, `100`)
	run := func(args, want string) {
		t.Helper()
		calls := entity.NewCalls("op", func(_ context.Context, op, typ, key string, c entity.Command) (json.RawMessage, error) {
			return accounts[key].send(c.Name, string(c.Args))
		})
		got, err := bank.Commands["transfer"](t.Context(), calls, entity.Command{Name: "transfer", Args: []byte(args)})
		if err != nil || string(got) != want {
			t.Errorf("transfer %s: %s, %v, want %s", args, got, err, want)
		}
	}
	run(`{"from":"a","to":"b","cents":30}`, `70`)
	run(`{"from":"a","to":"b","cents":71}`, `{"rejected":"not enough money"}`)
	accounts["a"].want("withdraw", `{"cents":0}`, `70`)
	accounts["b"].want("withdraw", `{"cents":0}`, `30`)

	invoice := &host{t: t, typ: invoiceType}
	invoice.want("send", ``, `"sent"`)
	if timers := invoice.decision.Timers; len(timers) != 1 || timers[0].Command != "remind" || timers[0].After != 336*time.Hour {
		t.Errorf("sending sets %+v, want a reminder after two weeks", timers)
	}
	invoice.want("remind", ``, `"reminded"`)
	invoice.want("pay", ``, `"paid"`)
	if timers := invoice.decision.Timers; len(timers) != 1 || !timers[0].Cancel {
		t.Errorf("paying leaves %+v, want the reminder cancelled", timers)
	}
	if got, want := invoice.snapshot(), `{"version":2,"state":{"Paid":true,"Overdue":true}}`; got != want {
		t.Errorf("the invoice is %s, want %s", got, want)
	}
}
