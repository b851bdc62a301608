#!/bin/sh
# Every test, in two parts at once: tests that start Ray or commands wait for processes most of the time, and those
# that only calculate take what is left of the processor. Arguments go to pytest.
set -u
cd "$(dirname "$0")/.."

said=$(mktemp -d)
trap 'kill $started 2>/dev/null; rm -rf "$said"' EXIT
trap 'exit 130' INT TERM HUP

started=
part() {
    name=$1 priority=$2
    shift 2
    nice -n "$priority" .venv/bin/python -m pytest --durations=10 "$@" >"$said/$name" 2>&1 &
    started="$started $!"
}
part processes 0 tests/ray tests/e2e tests/golden "$@"
part unit 5 tests/unit "$@"

failed=0
for part in $started; do
    wait "$part" || failed=1
done
for name in unit processes; do
    echo "== $name"
    cat "$said/$name"
done
exit "$failed"
