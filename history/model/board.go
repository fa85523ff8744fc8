package model

import (
	"cmp"
	"encoding/json"
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
type board struct {
	best map[string]int64
	top  []boardScore // all players in the order of top
	out  answer
}

type boardScore struct {
	player string
	score  int64
}

func newBoard() *board { return &board{best: map[string]int64{}} }

func (b *board) Apply(op string, args json.RawMessage, _ string) (json.RawMessage, bool, error) {
	switch op {
	case "submit":
		return b.submit(args)
	case "top":
		if err := noArgs(args); err != nil {
			return nil, false, fmt.Errorf("board top: %w", err)
		}
		return b.list(boardTop), false, nil
	}
	return nil, false, fmt.Errorf("board: unknown operation %q; have submit, top", op)
}

func (b *board) submit(args json.RawMessage) (json.RawMessage, bool, error) {
	player, score := text("player"), number("score")
	if !plain(args, &player, &score) {
		var in struct {
			Player *string `json:"player"`
			Score  *int64  `json:"score"`
		}
		if err := decode(args, &in); err != nil {
			return nil, false, fmt.Errorf("board submit: %w", err)
		}
		player.setText(in.Player)
		score.setNumber(in.Score)
	}
	if err := player.required(); err != nil {
		return nil, false, fmt.Errorf("board submit: %w", err)
	}
	if err := score.atLeast(0); err != nil {
		return nil, false, fmt.Errorf("board submit: %w", err)
	}
	best, known := b.best[string(player.text)]
	if !known || score.number > best {
		name := string(player.text)
		if known {
			i := b.place(boardScore{name, best})
			name = b.top[i].player
			b.top = slices.Delete(b.top, i, i+1)
		}
		best = score.number
		b.best[name] = best
		b.top = slices.Insert(b.top, b.place(boardScore{name, best}), boardScore{name, best})
	}
	// Nobody is before the first player of the same score.
	rank, _ := slices.BinarySearchFunc(b.top, best, func(s boardScore, best int64) int { return cmp.Compare(best, s.score) })
	return b.out.object().number("best", best).number("rank", int64(rank+1)).end(), true, nil
}

// place returns where s is in the order of top, or belongs.
func (b *board) place(s boardScore) int {
	i, _ := slices.BinarySearchFunc(b.top, s, func(x, y boardScore) int {
		return cmp.Or(cmp.Compare(y.score, x.score), cmp.Compare(x.player, y.player))
	})
	return i
}

// list makes the result that holds the first players.
func (b *board) list(most int) json.RawMessage {
	b.out.object().name("top")
	b.out = append(b.out, '[')
	for i, s := range b.top[:min(len(b.top), most)] {
		if i > 0 {
			b.out = append(b.out, ',')
		}
		b.out = append(b.out, '{')
		b.out.text("player", s.player).number("score", s.score).end()
	}
	b.out = append(b.out, ']')
	return b.out.end()
}

func (b *board) Clone() State { return &board{best: maps.Clone(b.best), top: slices.Clone(b.top)} }

func (b *board) Fingerprint() string { return string((&board{top: b.top}).list(len(b.top))) }
