#!/usr/bin/env bash
# The flow tests with kernels that watch every access to memory and every undefined operation, and the waves of the
# solver with every access by several threads watched. Needs gcc on Linux and the packages of the tests; builds in a
# scratch folder. Usage: tests/sanitize.sh PYTHON (with setuptools>=77 and Cython>=3.1, as pyproject.toml asks)
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
python=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

race() {  # compiler's further arguments
    gcc -std=gnu11 -O2 -g -fopenmp-simd -ffp-contract=off -fsanitize=thread "$@" -I "$here/csrc" \
        "$here/tests/flow/wave_race.c" -pthread -o "$work/wave_race"
    TSAN_OPTIONS=halt_on_error=1 "$work/wave_race"
}
race -DPF_ISA=v2 -march=x86-64-v2
# a wave that follows too closely must be seen, or this test sees nothing
sed 's/^#define BEHIND 4$/#define BEHIND 3/' "$here/csrc/solver.c" > "$work/solver.c"
if race -DPF_ISA=v2 -march=x86-64-v2 -I "$work" -iquote "$work" > "$work/too_close" 2>&1; then
    echo "the thread sanitizer does not see a wave that follows too closely" >&2
    exit 1
fi
grep -q "data race" "$work/too_close"

mkdir "$work/pyflow"
[ -d "$here/../shared" ] && ln -s "$(cd "$here/../shared" && pwd)" "$work/shared"
cd "$here"
cp -r --parents csrc pyflow setup.py pyproject.toml README.md LICENSE tests/conftest.py tests/flow tests/reference "$work/pyflow"
cd "$work/pyflow"
find . -name '*.so' -delete
flags="-fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=undefined,float-cast-overflow -g1"
CFLAGS="$flags" LDFLAGS="$flags" "$python" setup.py -q build_ext --inplace > build.log 2>&1 || { tail -20 build.log; exit 1; }
export PYTHONPATH=$PWD ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1
# standard C++ too, whose exceptions the sanitizer must find when it starts
LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libstdc++.so)" \
    "$python" -m pytest -q -x --capture=sys -p no:cacheprovider --import-mode=importlib tests/flow
