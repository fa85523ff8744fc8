package model

import (
	"encoding/json"
	"fmt"
	"slices"
)

// playback is where a listener is in a recording, and on which device.
//
//	seek {"position":int>=0,"device":string} -> {"position":p,"device":d}, a write
//	delete {}                                -> {"position":p,"device":d} of before, a write
//	get {}                                   -> {"position":p,"device":d}, 0 and "" before the first seek and after a delete
type playback struct {
	position int64
	device   []byte // never shared
	out      answer
}

func (p *playback) Apply(op string, args json.RawMessage, _ string) (json.RawMessage, bool, error) {
	switch op {
	case "seek":
		position, device := number("position"), text("device")
		if !plain(args, &position, &device) {
			var in struct {
				Position *int64  `json:"position"`
				Device   *string `json:"device"`
			}
			if err := decode(args, &in); err != nil {
				return nil, false, fmt.Errorf("playback seek: %w", err)
			}
			position.setNumber(in.Position)
			device.setText(in.Device)
		}
		if err := position.atLeast(0); err != nil {
			return nil, false, fmt.Errorf("playback seek: %w", err)
		}
		if err := device.required(); err != nil {
			return nil, false, fmt.Errorf("playback seek: %w", err)
		}
		p.position, p.device = position.number, append(p.device[:0], device.text...)
		return p.state(), true, nil
	case "delete":
		if err := noArgs(args); err != nil {
			return nil, false, fmt.Errorf("playback delete: %w", err)
		}
		last := p.state()
		p.position, p.device = 0, p.device[:0]
		return last, true, nil
	case "get":
		if err := noArgs(args); err != nil {
			return nil, false, fmt.Errorf("playback get: %w", err)
		}
		return p.state(), false, nil
	}
	return nil, false, fmt.Errorf("playback: unknown operation %q; have seek, delete, get", op)
}

func (p *playback) state() json.RawMessage {
	return p.out.object().number("position", p.position).bytes("device", p.device).end()
}

func (p *playback) Clone() State {
	return &playback{position: p.position, device: slices.Clone(p.device)}
}

func (p *playback) Fingerprint() string { return string(p.Clone().(*playback).state()) }
