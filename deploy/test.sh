#!/usr/bin/env bash
# Builds Plateau and runs its tests, from a clean clone with no other step.
# Usage: deploy/test.sh [--long]     --long adds the sanitizer builds, the learning runs and the kill matrix
# Tests that need what this machine lacks (a GPU, root) skip themselves and are listed at the end.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

long=0
for argument in "$@"; do
  case $argument in
    --long) long=1 ;;
    *)
      sed -n 's/^# \(Usage.*\)/\1/p' "$0" >&2
      exit 2
      ;;
  esac
done

# More ranks than cores, and root in a container, are normal in tests.
export OMPI_MCA_rmaps_base_oversubscribe=1
if ((EUID == 0)); then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
# Open MPI keeps some memory until the process ends; OpenMP's runtime is unknown to TSan.
export ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 TSAN_OPTIONS="halt_on_error=1:suppressions=$PWD/deploy/tsan-suppressions.txt"

summary=()
failed=0

# run_suite NAME PRESET CTEST_ARGUMENT...: runs the tests of a build and keeps one line for the summary.
run_suite() {
  local name=$1 preset=$2 log began line
  shift 2
  log=$(mktemp)
  began=$SECONDS
  if ! ctest --test-dir "build/$preset" --output-on-failure --no-tests=error -j "$(nproc)" "$@" | tee "$log"; then failed=1; fi
  line=$(grep -E "tests passed" "$log" || echo "no tests ran")
  summary+=("$(printf '%-28s %s (%d s)' "$name" "$line" $((SECONDS - began)))")
  while read -r skipped; do summary+=("    skipped here: $skipped"); done < <(skipped_tests "$log")
  rm -f "$log"
}

# skipped_tests LOG: the tests that ctest's log counts as skipped, those that need a device in one line.
skipped_tests() {
  sed -nE 's/^[[:space:]]*[0-9]+ - ([^ ]+).*\(Skipped\)[[:space:]]*$/\1/p' "$1" | sort -u |
    awk '/^gpu\./ { ++gpu; next } { print } END { if (gpu) print gpu " tests of a GPU (deploy/gpu-check.sh runs them on one)" }'
}

began=$SECONDS
deploy/build.sh release all
summary+=("release build                ready ($((SECONDS - began)) s)")
run_suite "release tests" release

if ((long)); then
  run_suite "kill matrix, three times" release -L integration --repeat until-fail:3
  began=$SECONDS
  if deploy/quickstart.sh --no-build; then learned="learned, killed, resumed to the same bits"; else learned="FAILED" failed=1; fi
  summary+=("learning run                 $learned ($((SECONDS - began)) s)")
  deploy/build.sh debug all
  run_suite "ASan + UBSan" debug -LE 'integration|bench'
  deploy/build.sh tsan threaded_tests
  run_suite "TSan" tsan -L '^(common|dataset|coordinator|coordinator_cli)$'
fi

echo
echo "Summary"
printf '  %s\n' "${summary[@]}"
if ((failed)); then
  echo "  FAILED: the failing tests and their output are above"
  exit 1
fi
echo "  all passed"
