#!/bin/sh
# Every test, in two parts at once: tests that start Ray or commands wait for processes most of the time, and those
# that only calculate take what is left of the processor. The first part is shown as it goes, the second when the
# first is done. Arguments go to pytest.
set -u
cd "$(dirname "$0")/.."

said=$(mktemp)
trap 'kill $started 2>/dev/null; rm -f "$said"' EXIT
trap 'exit 130' INT TERM HUP

echo "== unit, beside the others: shown when they are done"
nice -n 5 .venv/bin/python -m pytest --durations=10 tests/unit "$@" >"$said" 2>&1 &
unit=$!
started=$unit
echo "== ray, e2e, golden"
.venv/bin/python -m pytest --durations=10 tests/ray tests/e2e tests/golden "$@" &
others=$!
started="$unit $others"

failed=0
wait "$others" || failed=1
wait "$unit" || failed=1
echo "== unit"
cat "$said"
exit "$failed"
