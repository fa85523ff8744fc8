package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strconv"
)

// places says where a figure stands in verdict.json; "*" is every element.
var places = map[string][]string{
	"throughput": {"throughput_per_s", "all"},
	"p50":        {"latency_ns", "all", "p50"},
	"p99":        {"latency_ns", "all", "p99"},
	"outage":     {"faults", "*", "recovery", "outage_ns", "max"},
}

// worsen copies a verdict.json with one figure made worse by the shift, a
// logarithm.
func worsen(from, to, name string, shift float64) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var v any
	if err := decoder.Decode(&v); err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	change := func(v float64) float64 { return math.Round(v * math.Exp(shift)) } // nanoseconds
	if name == "throughput" {
		change = func(v float64) float64 { return v * math.Exp(-shift) }
	}
	if n := edit(v, places[name], change); n == 0 {
		return fmt.Errorf("%s: no %s in it", from, name)
	}
	if data, err = json.Marshal(v); err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o644)
}

// edit changes the numbers at a place in v and returns how many there are.
func edit(v any, place []string, change func(float64) float64) int {
	if list, ok := v.([]any); ok && place[0] == "*" {
		n := 0
		for _, element := range list {
			n += edit(element, place[1:], change)
		}
		return n
	}
	object, ok := v.(map[string]any)
	if !ok {
		return 0
	}
	if len(place) > 1 {
		return edit(object[place[0]], place[1:], change)
	}
	number, ok := object[place[0]].(json.Number)
	if !ok {
		return 0
	}
	value, err := number.Float64()
	if err != nil {
		return 0
	}
	object[place[0]] = json.Number(strconv.FormatFloat(change(value), 'f', -1, 64))
	return 1
}
