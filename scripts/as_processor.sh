#!/bin/sh
# Runs a command, and all that it starts, as if the processor had fewer features:
#     sh scripts/as_processor.sh avx2 COMMAND ...      AVX2 alone
#     sh scripts/as_processor.sh avx512 COMMAND ...    AVX512 without VNNI
# `make test PROCESSOR=avx2` runs every test so. Needs Linux on x86-64 with CPUID faulting (Intel since Ivy Bridge, AMD
# since Zen 4; most virtual machines pass it on), and a C compiler; without them it exits with 77.
set -eu
level=$1
shift
here=$(cd "$(dirname "$0")" && pwd)
library=${AS_PROCESSOR_LIBRARY:-$here/../.venv/as_processor.so}
case $level in avx2 | avx512) ;; *) echo "as_processor: '$level' is neither avx2 nor avx512" >&2; exit 2 ;; esac
grep -q cpuid_fault /proc/cpuinfo 2>/dev/null || { echo "as_processor: no CPUID faulting here" >&2; exit 77; }
if [ ! "$library" -nt "$here/as_processor.c" ]; then
    cc -shared -fPIC -O1 -o "$library.$$" "$here/as_processor.c" -ldl || exit 77
    mv "$library.$$" "$library"
fi
AS_PROCESSOR=$level LD_PRELOAD=$library exec "$@"
