package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// maxQuantity is the most that a cart holds of one item.
const maxQuantity = 100

// cart is a shopping cart: the quantity of each item in it, at least 1.
//
//	add {"item":string,"quantity":int>=1}
//	    -> {"item":i,"quantity":total of the item,"items":number of distinct items}, a write
//	    -> {"rejected":"at most 100 of one item"} if the total would exceed 100
//	remove {"item":string}
//	    -> {"items":number of distinct items left}, a write
//	    -> {"rejected":"no such item"}
//	get {}
//	    -> {"items":[{"item":i,"quantity":q},...]}, sorted by item
type cart map[string]int64

type cartAdded struct {
	Item     string `json:"item"`
	Quantity int64  `json:"quantity"`
	Items    int    `json:"items"`
}

type cartRemoved struct {
	Items int `json:"items"`
}

type cartContent struct {
	Items []cartItem `json:"items"`
}

type cartItem struct {
	Item     string `json:"item"`
	Quantity int64  `json:"quantity"`
}

func (c cart) Apply(op string, args json.RawMessage, _ string) (json.RawMessage, bool, error) {
	switch op {
	case "add":
		return c.add(args)
	case "remove":
		return c.remove(args)
	case "get":
		if err := decode(args, &none{}); err != nil {
			return nil, false, fmt.Errorf("cart get: %w", err)
		}
		return encode(c.content()), false, nil
	}
	return nil, false, fmt.Errorf("cart: unknown operation %q; have add, remove, get", op)
}

func (c cart) add(args json.RawMessage) (json.RawMessage, bool, error) {
	var in struct {
		Item     *string `json:"item"`
		Quantity *int64  `json:"quantity"`
	}
	if err := decode(args, &in); err != nil {
		return nil, false, fmt.Errorf("cart add: %w", err)
	}
	if in.Item == nil {
		return nil, false, errors.New("cart add: args: item is missing")
	}
	if in.Quantity == nil {
		return nil, false, errors.New("cart add: args: quantity is missing")
	}
	if *in.Quantity < 1 {
		return nil, false, fmt.Errorf("cart add: args: quantity: %d is less than 1", *in.Quantity)
	}
	total := c[*in.Item]
	if *in.Quantity > maxQuantity-total {
		return encode(rejection{fmt.Sprintf("at most %d of one item", maxQuantity)}), false, nil
	}
	total += *in.Quantity
	c[*in.Item] = total
	return encode(cartAdded{*in.Item, total, len(c)}), true, nil
}

func (c cart) remove(args json.RawMessage) (json.RawMessage, bool, error) {
	var in struct {
		Item *string `json:"item"`
	}
	if err := decode(args, &in); err != nil {
		return nil, false, fmt.Errorf("cart remove: %w", err)
	}
	if in.Item == nil {
		return nil, false, errors.New("cart remove: args: item is missing")
	}
	if _, ok := c[*in.Item]; !ok {
		return encode(rejection{"no such item"}), false, nil
	}
	delete(c, *in.Item)
	return encode(cartRemoved{len(c)}), true, nil
}

func (c cart) content() cartContent {
	out := cartContent{Items: make([]cartItem, 0, len(c))}
	for _, item := range slices.Sorted(maps.Keys(c)) {
		out.Items = append(out.Items, cartItem{item, c[item]})
	}
	return out
}

func (c cart) Clone() State { return maps.Clone(c) }

func (c cart) Fingerprint() string { return string(encode(c.content())) }
