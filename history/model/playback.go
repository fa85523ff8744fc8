package model

import (
	"encoding/json"
	"errors"
	"fmt"
)

// playback is where a listener is in a recording, and on which device.
//
//	seek {"position":int>=0,"device":string} -> {"position":p,"device":d}, a write
//	delete {}                                -> {"position":p,"device":d} of before, a write
//	get {}                                   -> {"position":p,"device":d}, 0 and "" before the first seek and after a delete
type playback struct {
	position int64
	device   string
}

type playbackState struct {
	Position int64  `json:"position"`
	Device   string `json:"device"`
}

func (p *playback) Apply(op string, args json.RawMessage, _ string) (json.RawMessage, bool, error) {
	switch op {
	case "seek":
		var in struct {
			Position *int64  `json:"position"`
			Device   *string `json:"device"`
		}
		if err := decode(args, &in); err != nil {
			return nil, false, fmt.Errorf("playback seek: %w", err)
		}
		if err := atLeast(0, "position", in.Position); err != nil {
			return nil, false, fmt.Errorf("playback seek: %w", err)
		}
		if in.Device == nil {
			return nil, false, errors.New("playback seek: args: device is missing")
		}
		p.position, p.device = *in.Position, *in.Device
		return p.state(), true, nil
	case "delete":
		if err := decode(args, &none{}); err != nil {
			return nil, false, fmt.Errorf("playback delete: %w", err)
		}
		last := p.state()
		*p = playback{}
		return last, true, nil
	case "get":
		if err := decode(args, &none{}); err != nil {
			return nil, false, fmt.Errorf("playback get: %w", err)
		}
		return p.state(), false, nil
	}
	return nil, false, fmt.Errorf("playback: unknown operation %q; have seek, delete, get", op)
}

func (p *playback) state() json.RawMessage { return encode(playbackState{p.position, p.device}) }

func (p *playback) Clone() State {
	clone := *p
	return &clone
}

func (p *playback) Fingerprint() string { return string(p.state()) }
