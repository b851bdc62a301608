#!/bin/sh
# Builds .venv: the pinned packages of constraints.txt, and tutelage itself, editable.
# Without an NVIDIA GPU torch is a CPU build, which saves several GB of CUDA packages.
set -eu
cd "$(dirname "$0")/.."

fail() { echo "setup: $1" >&2; exit 1; }

command -v "${PYTHON:=python3.11}" >/dev/null || fail "$PYTHON not found; install Python 3.11, or run make PYTHON=..."
"$PYTHON" -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' || fail "$PYTHON is older than 3.11"
[ -x .venv/bin/python ] || "$PYTHON" -m venv .venv || fail "no venv module (Debian: apt-get install python3-venv)"

pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }
torch=$(sed -n 's/^torch==//p' constraints.txt)

cpu_torch() {
    # A plain Mac wheel is a CPU build already. Elsewhere it is the local version +cpu, where a
    # configured package source has it; uv knows where PyTorch publishes its CPU wheels.
    pip install --quiet "torch==$torch+cpu" 2>/dev/null && return
    pip install --quiet uv && .venv/bin/uv pip install --quiet --python .venv/bin/python \
        --torch-backend=cpu -c constraints.txt "torch==$torch" && return
    echo "setup: no CPU build of torch $torch found; the default build is larger and works too" >&2
}

if [ "$(uname -s)" = Linux ] && ! nvidia-smi -L >/dev/null 2>&1; then
    .venv/bin/python -c "import importlib.metadata as m; assert m.version('torch').startswith('$torch')" 2>/dev/null || cpu_torch
fi
echo "setup: installing the pinned packages into .venv (about 2 GB)"
DS_BUILD_OPS=0 pip install --quiet -c constraints.txt hatchling editables
DS_BUILD_OPS=0 pip install --quiet -c constraints.txt --no-build-isolation -e '.[dev]'
