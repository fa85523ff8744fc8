package loadgen

import (
	"fmt"
	"strconv"

	"statequake/history"
)

const (
	defaultSessions = 100
	merchants       = 8 // accounts that are paid
	maxBasket       = 3 // things that a client takes on one journey
)

// Groups of keys of a shop. Products are boards, which hold what clients have
// rated them.
const (
	products = iota
	carts    // one of each client
	accounts // of each client, then those of the merchants
)

// shop is a shop whose clients are on journeys: they look at products, put some
// into their cart, and pay or leave. What a client does next is drawn, and never
// depends on an answer.
var shop = service{entity: "board", skew: Skew{Zipf: 0.99}, journey: openShop, commands: []command{
	look: {name: "top", weight: 45},
	rate: {name: "submit", weight: 2, writes: 1, fields: []string{"player", "score"}},
	add:  {name: "add", entity: "cart", weight: 19, writes: 1, fields: []string{"item", "quantity"}},
	view: {name: "get", entity: "cart", weight: 12},
	drop: {name: "remove", entity: "cart", weight: 14, writes: 1, fields: []string{"item"}},
	pay:  {name: "run", entity: "transfer", weight: 7, writes: 2, fields: []string{"to", "amount"}},
	top:  {name: "credit", entity: "account", weight: 1, writes: 1, fields: []string{"amount"}},
}, probe: boardProbe}

// Steps of a journey, by the position of their command.
const (
	look = iota // at a product
	rate        // the last product that was looked at
	add         // that product to the cart
	view        // the cart
	drop        // a thing out of the cart
	pay         // from the client's account to a merchant's
	top         // up the client's account
)

// shops are the clients of a shop.
type shops struct {
	clients []shopper
}

// shopper is where a client is on its journey: before which step, with what it
// has seen and taken so far.
type shopper struct {
	step    uint8
	paid    bool
	taken   uint8
	basket  [maxBasket]int32 // products
	product int32            // that was looked at last
}

func openShop(w *Workload) *shops {
	w.groups = append(w.groups, newGroup("cart", w.sessions, 1), newGroup("account", w.sessions+merchants, 2))
	return &shops{clients: make([]shopper, w.sessions)}
}

// next makes operation n, a step of its client, and decides on the step that
// follows it.
func (s *shops) next(w *Workload, n int64) history.Op {
	client := int(n % int64(w.sessions))
	c := &s.clients[client]
	step, group, rank := c.step, carts, client+1
	var args []byte
	switch step {
	case look:
		c.product = int32(w.skew.key(w.skew.draw(w.rand, w.skew.n)))
		group, rank = products, int(c.product)
		switch p := w.rand.IntN(100); {
		case p < 20 && c.taken == 0: // leaves, and comes again
			c.step = start(w)
		case p < 55 || c.taken == maxBasket && p < 60:
		case c.taken == maxBasket:
			c.step = view
		default:
			c.step = add
		}
	case rate:
		group, rank = products, int(c.product)
		args = fmt.Appendf(nil, `{"player":"c-%d","score":%d}`, client+1, 1+w.rand.IntN(5))
		*c = shopper{step: start(w)}
	case add:
		args = fmt.Appendf(nil, `{"item":"sku-%d","quantity":%d}`, c.product, 1+w.rand.IntN(2))
		c.basket[c.taken] = c.product
		c.taken++
		c.step = look
		if w.rand.IntN(2) == 0 {
			c.step = view
		}
	case view:
		switch p := w.rand.IntN(100); {
		case p < 25: // leaves it all behind
			*c = shopper{step: start(w)}
		case p < 40:
			c.step = drop
		default:
			c.step = pay
		}
	case drop:
		c.taken--
		args = strconv.AppendInt([]byte(`{"item":"sku-`), int64(c.basket[c.taken]), 10)
		args = append(args, `"}`...)
		switch {
		case c.taken > 0 && c.paid: // what is paid leaves the cart
		case c.taken > 0:
			c.step = view
		case c.paid && w.rand.IntN(100) < 30:
			*c = shopper{step: rate, product: c.product}
		default:
			*c = shopper{step: start(w)}
		}
	case pay:
		group = accounts
		to := w.use(accounts, w.sessions+1+int(c.product)%merchants, 1)
		args = fmt.Appendf(nil, `{"to":%q,"amount":%d}`, to, 1+w.rand.IntN(30*int(c.taken)))
		c.step, c.paid = drop, true
	case top:
		group = accounts
		args = fmt.Appendf(nil, `{"amount":%d}`, 100+w.rand.IntN(101))
		c.step = look
	}
	op := w.operation(n, &w.commands[step], group, rank)
	op.Client, op.Args = client, args
	return op
}

// start draws the first step of a journey.
func start(w *Workload) uint8 {
	if w.rand.IntN(100) < 10 {
		return top
	}
	return look
}
