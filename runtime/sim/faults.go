package sim

import "time"

// maxFaults are under way at a time.
const maxFaults = 2

// fault begins a random fault that ends by itself, and plans the next one.
func (w *world) fault() {
	if w.calm {
		return
	}
	w.after(w.between(100*time.Millisecond, 2*time.Second), nil, w.fault)
	if w.faults >= maxFaults {
		return
	}
	n := w.nodes[w.rng.IntN(len(w.nodes))]
	for1 := w.between(100*time.Millisecond, 2500*time.Millisecond)
	var end func()
	switch w.rng.IntN(8) {
	case 0:
		if !n.up {
			return
		}
		n.crash()
		end = func() {
			if !n.up {
				n.start()
			}
		}
	case 1:
		if !n.up || n.paused {
			return
		}
		n.pause()
		life := n.life
		end = func() {
			if n.life == life && n.paused {
				n.resume()
			}
		}
	case 2:
		w.log("%s is cut off from the store", n.name)
		n.cut = true
		end = func() { n.cut = false }
	case 3:
		p := pair(n.i, (n.i+1)%len(w.nodes))
		w.log("nodes %v are cut off from each other", p)
		w.apart[p] = true
		end = func() { delete(w.apart, p) }
	case 4:
		w.slow = 10 + w.rng.IntN(200)
		w.log("the store is slow by %d", w.slow)
		end = func() { w.slow = 1 }
	case 5:
		w.storeLoss = 0.05 + 0.4*w.rng.Float64()
		w.log("the store loses %.2f", w.storeLoss)
		end = func() { w.storeLoss = 0 }
	case 6:
		w.netLoss, w.netTwice = 0.3*w.rng.Float64(), 0.3*w.rng.Float64()
		w.log("the network loses %.2f and doubles %.2f", w.netLoss, w.netTwice)
		end = func() { w.netLoss, w.netTwice = 0, 0 }
	case 7:
		if !n.up || n.paused {
			return
		}
		w.log("%s is drained", n.name)
		n.leaving = true
		n.act(n.owner.Drain())
		life := n.life
		end = func() {
			if n.life == life {
				n.crash()
				n.start()
			}
		}
	}
	w.faults++
	w.result.Faults++
	w.after(for1, nil, func() {
		w.faults--
		if !w.calm || !n.up || n.paused {
			w.log("a fault ends")
			end()
		}
	})
}
