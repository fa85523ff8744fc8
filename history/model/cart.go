package model

import (
	"encoding/json"
	"fmt"
	"slices"
)

// maxQuantity is the most that a cart holds of one item.
const maxQuantity = 100

// cart is a shopping cart: the quantity of each item in it, at least 1, sorted by item.
//
//	add {"item":string,"quantity":int>=1}
//	    -> {"item":i,"quantity":total of the item,"items":number of distinct items}, a write
//	    -> {"rejected":"at most 100 of one item"} if the total would exceed 100
//	remove {"item":string}
//	    -> {"items":number of distinct items left}, a write
//	    -> {"rejected":"no such item"}
//	get {}
//	    -> {"items":[{"item":i,"quantity":q},...]}, sorted by item
type cart struct {
	items []cartItem
	out   answer
}

type cartItem struct {
	item     string
	quantity int64
}

// tooMany is a rejection.
var tooMany = fmt.Sprintf("at most %d of one item", maxQuantity)

func (c *cart) Apply(op string, args json.RawMessage, _ string) (json.RawMessage, bool, error) {
	switch op {
	case "add":
		return c.add(args)
	case "remove":
		return c.remove(args)
	case "get":
		if err := noArgs(args); err != nil {
			return nil, false, fmt.Errorf("cart get: %w", err)
		}
		return c.content(), false, nil
	}
	return nil, false, fmt.Errorf("cart: unknown operation %q; have add, remove, get", op)
}

func (c *cart) add(args json.RawMessage) (json.RawMessage, bool, error) {
	item, quantity := text("item"), number("quantity")
	if !plain(args, &item, &quantity) {
		var in struct {
			Item     *string `json:"item"`
			Quantity *int64  `json:"quantity"`
		}
		if err := decode(args, &in); err != nil {
			return nil, false, fmt.Errorf("cart add: %w", err)
		}
		item.setText(in.Item)
		quantity.setNumber(in.Quantity)
	}
	if err := item.required(); err != nil {
		return nil, false, fmt.Errorf("cart add: %w", err)
	}
	if err := quantity.atLeast(1); err != nil {
		return nil, false, fmt.Errorf("cart add: %w", err)
	}
	i, found := c.find(item.text)
	var total int64
	if found {
		total = c.items[i].quantity
	}
	if quantity.number > maxQuantity-total {
		return c.out.rejected(tooMany), false, nil
	}
	total += quantity.number
	if found {
		c.items[i].quantity = total
	} else {
		c.items = slices.Insert(c.items, i, cartItem{string(item.text), total})
	}
	return c.out.object().bytes("item", item.text).number("quantity", total).number("items", int64(len(c.items))).end(), true, nil
}

func (c *cart) remove(args json.RawMessage) (json.RawMessage, bool, error) {
	item := text("item")
	if !plain(args, &item) {
		var in struct {
			Item *string `json:"item"`
		}
		if err := decode(args, &in); err != nil {
			return nil, false, fmt.Errorf("cart remove: %w", err)
		}
		item.setText(in.Item)
	}
	if err := item.required(); err != nil {
		return nil, false, fmt.Errorf("cart remove: %w", err)
	}
	i, found := c.find(item.text)
	if !found {
		return c.out.rejected("no such item"), false, nil
	}
	c.items = slices.Delete(c.items, i, i+1)
	return c.out.object().number("items", int64(len(c.items))).end(), true, nil
}

// find returns where the item is, or belongs.
func (c *cart) find(item []byte) (i int, found bool) {
	low, high := 0, len(c.items)
	for low < high {
		middle := int(uint(low+high) / 2)
		if c.items[middle].item < string(item) {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low, low < len(c.items) && c.items[low].item == string(item)
}

func (c *cart) content() json.RawMessage {
	c.out.object().name("items")
	c.out = append(c.out, '[')
	for i := range c.items {
		if i > 0 {
			c.out = append(c.out, ',')
		}
		c.out = append(c.out, '{')
		c.out.text("item", c.items[i].item).number("quantity", c.items[i].quantity).end()
	}
	c.out = append(c.out, ']')
	return c.out.end()
}

func (c *cart) Clone() State { return &cart{items: slices.Clone(c.items)} }

func (c *cart) Fingerprint() string { return string((&cart{items: c.items}).content()) }
