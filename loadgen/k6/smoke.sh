#!/usr/bin/env bash
# Runs every example for a few seconds against a cluster of its own, and has each
# judged. Needs bin/statequake (make build) and bin/statequake-k6 (make k6).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
for program in bin/statequake bin/statequake-k6; do
	[ -x "$program" ] || { echo "smoke.sh: $program is missing (make build k6)" >&2; exit 3; }
done

dir=$(mktemp -d)
bin/statequake cluster up --dir "$dir/cluster" >"$dir/cluster.log" 2>&1 &
cluster=$!
trap 'kill "$cluster" 2>/dev/null || true; wait "$cluster" 2>/dev/null || true; rm -rf "$dir"' EXIT
for _ in $(seq 300); do
	[ -S "$dir/cluster/control.sock" ] && break
	sleep 0.2
done
[ -S "$dir/cluster/control.sock" ] || { cat "$dir/cluster.log" >&2; exit 3; }

export STATEQUAKE_RUN=$dir/cluster STATEQUAKE_DURATION=${1:-3s}
worst=0
for script in loadgen/k6/examples/*.js; do
	name=$(basename "$script" .js)
	code=0
	bin/statequake-k6 run --quiet --out "statequake=$dir/$name" "$script" >"$dir/$name.log" 2>&1 || code=$?
	verdict=0
	bin/statequake check "$dir/$name" >"$dir/$name.verdict" || verdict=$?
	printf '%-12s k6 exit %d, judged %d: %s\n' "$name" "$code" "$verdict" "$(head -1 "$dir/$name.verdict")"
	[ "$code" = 0 ] && [ "$verdict" = 0 ] || { worst=1; cat "$dir/$name.log" "$dir/$name.verdict"; }
done
exit "$worst"
