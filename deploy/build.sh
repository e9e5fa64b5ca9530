#!/usr/bin/env bash
# Builds Plateau: packages when missing, configuration, compilation.
# Usage: deploy/build.sh [PRESET [TARGET...]]     PRESET: release (default), debug (ASan+UBSan), tsan
# Leaves build/PRESET/bin/{plateau,plateau-coordinator,plateau-worker}. PLATEAU_SKIP_DEPS=1 leaves the packages alone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

preset=${1:-release}
shift $(($# > 0 ? 1 : 0))
case $preset in
  release | debug | tsan) ;;
  *)
    echo "build: unknown preset \"$preset\"; use release, debug or tsan" >&2
    exit 2
    ;;
esac
[[ ${PLATEAU_SKIP_DEPS:-0} == 1 ]] || deploy/install-deps.sh

# A compiler process may take 2 GiB: fewer at once on a machine with little memory.
memory_gib=$(awk '/MemAvailable/ {print int($2 / 1048576)}' /proc/meminfo)
jobs=$(nproc)
((memory_gib / 2 < jobs)) && jobs=$((memory_gib / 2 > 0 ? memory_gib / 2 : 1))

targets=("$@")
((${#targets[@]} > 0)) || targets=(plateau plateau-coordinator plateau-worker)
cmake --preset "$preset" >"/tmp/plateau-configure-$$.log" 2>&1 || {
  cat "/tmp/plateau-configure-$$.log" >&2
  rm -f "/tmp/plateau-configure-$$.log"
  echo "build: configuration failed, see above; build/$preset/CMakeFiles holds more" >&2
  exit 1
}
grep -E "^-- (CUDA|Warning)" "/tmp/plateau-configure-$$.log" || true
rm -f "/tmp/plateau-configure-$$.log"
ninja -C "build/$preset" -j "$jobs" "${targets[@]}"
if [[ -x build/$preset/bin/plateau ]]; then echo "build: build/$preset/bin holds $(ls "build/$preset/bin" | tr '\n' ' ')"; fi
