package model

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// boardTop is the most players that a board shows.
const boardTop = 10

// board is a leaderboard: the best score of each player.
//
//	submit {"player":string,"score":int>=0}
//	    -> {"best":the player's best score,"rank":1 + number of players with a higher one}, a write
//	top {}
//	    -> {"top":[{"player":p,"score":s},...]}, at most 10, by score descending, then by player
type board map[string]int64

type boardRank struct {
	Best int64 `json:"best"`
	Rank int   `json:"rank"`
}

type boardList struct {
	Top []boardScore `json:"top"`
}

type boardScore struct {
	Player string `json:"player"`
	Score  int64  `json:"score"`
}

func (b board) Apply(op string, args json.RawMessage, _ string) (json.RawMessage, bool, error) {
	switch op {
	case "submit":
		return b.submit(args)
	case "top":
		if err := decode(args, &none{}); err != nil {
			return nil, false, fmt.Errorf("board top: %w", err)
		}
		scores := b.scores()
		return encode(boardList{scores[:min(len(scores), boardTop)]}), false, nil
	}
	return nil, false, fmt.Errorf("board: unknown operation %q; have submit, top", op)
}

func (b board) submit(args json.RawMessage) (json.RawMessage, bool, error) {
	var in struct {
		Player *string `json:"player"`
		Score  *int64  `json:"score"`
	}
	if err := decode(args, &in); err != nil {
		return nil, false, fmt.Errorf("board submit: %w", err)
	}
	if in.Player == nil {
		return nil, false, errors.New("board submit: args: player is missing")
	}
	if err := atLeast(0, "score", in.Score); err != nil {
		return nil, false, fmt.Errorf("board submit: %w", err)
	}
	b[*in.Player] = max(b[*in.Player], *in.Score)
	out := boardRank{Best: b[*in.Player], Rank: 1}
	for _, best := range b {
		if best > out.Best {
			out.Rank++
		}
	}
	return encode(out), true, nil
}

// scores lists all players in the order of top.
func (b board) scores() []boardScore {
	out := make([]boardScore, 0, len(b))
	for player, score := range b {
		out = append(out, boardScore{player, score})
	}
	slices.SortFunc(out, func(x, y boardScore) int {
		return cmp.Or(cmp.Compare(y.Score, x.Score), cmp.Compare(x.Player, y.Player))
	})
	return out
}

func (b board) Clone() State { return maps.Clone(b) }

func (b board) Fingerprint() string { return string(encode(b.scores())) }
