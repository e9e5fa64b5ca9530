#!/usr/bin/env bash
# On a machine with a GPU: runs the tests that need one, looks for memory errors in a small step, times training beside PyTorch, and
# writes one table. From the unpacked bundle (made with --with-tests) no build tools are needed; from a clone it uses build/release.
#
# Usage: deploy/gpu-check.sh [--out FILE] [--packed] [--minutes N] [--peer SCRIPT] [--python PYTHON] [--networks LIST] [--precisions LIST] [--batch N] [--steps N] [--rounds N]
#   --out FILE          the table, Markdown (default: gpu-check.md), written anew behind each step; the full output of all that ran goes
#                       to FILE's folder, gpu-check/
#   --packed            that output as one file in place of the folder: gpu-check.tar.gz
#   --minutes N         all of it ends within so long: what there is no time for is left out, and said so (default: 240)
#   --peer SCRIPT       PyTorch's training step, run as PYTHON SCRIPT vgg16 BATCH MODE STEPS, turn by turn with Plateau
#   --python PYTHON     (default: python3); CUDA's libraries are also looked for among its packages
#   --networks LIST     (default: vgg-a,vgg-d,vgg-e)
#   --precisions LIST   (default: bf16,tf32,fp32)
#   (in a clone: $PLATEAU_BIN is the folder of the programs, when it is not build/release/bin)
#   --batch N, --steps N, --rounds N   images a step, timed steps, turns of each (default: 256, 30, 2)
#   --help              this text
# Exit codes: 0 nothing failed (the table says what was left out), 1 something failed (the table says what), 2 usage, 3 no device answers.
set -euo pipefail
folder=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)

usage() { sed -n '/^# Usage/,/^# Exit/p' "$folder/deploy/gpu-check.sh" | sed 's/^# \{0,1\}//'; }
# refuse TEXT...: what was wrong with the call, and what to do.
refuse() {
  printf 'gpu-check: %s\n' "$*" >&2
  exit 2
}

out=gpu-check.md packed=0 minutes=240 peer='' python=python3 networks=vgg-a,vgg-d,vgg-e precisions=bf16,tf32,fp32 batch=256 steps=30 rounds=2
while (($# > 0)); do
  case $1 in
    --help | -h)
      usage
      exit 0
      ;;
    --packed)
      packed=1
      shift
      ;;
    --out | --minutes | --peer | --python | --networks | --precisions | --batch | --steps | --rounds)
      (($# > 1)) || refuse "$1 wants a value; --help lists what there is"
      printf -v "${1#--}" %s "$2"
      shift 2
      ;;
    *) refuse "there is no option $1; --help lists what there is" ;;
  esac
done

# ---- everything that can be wrong with the call, before anything runs
for option in minutes batch steps rounds; do
  [[ ${!option} =~ ^[1-9][0-9]{0,8}$ ]] || refuse "--$option ${!option}: give a whole number from 1 on"
done
[[ -n ${precisions//,/} ]] || refuse "--precisions: give some of bf16, tf32, fp32, separated by commas"
[[ -n ${networks//,/} ]] || refuse "--networks: give networks such as vgg-a,vgg-d, separated by commas"
for precision in ${precisions//,/ }; do
  [[ $precision == @(bf16|tf32|fp32) ]] || refuse "--precisions: $precision is none of bf16, tf32, fp32"
done
[[ -z $peer || -f $peer ]] || refuse "--peer $peer: there is no such file"
[[ -z $peer ]] || command -v "$python" >/dev/null || refuse "--python $python: is not found; it runs $peer"
[[ $out == /* ]] || out=$PWD/$out
[[ ! -d $out ]] || refuse "--out $out: is a folder; name a file in it"
exists=$(dirname "$out")
while [[ ! -e $exists ]]; do exists=$(dirname "$exists"); done
[[ -d $exists && -w $exists ]] || refuse "--out $out: nothing can be written into $exists; name a file in a folder of yours"

bin=$folder/bin tests=$folder/tests
if [[ ! -x $bin/plateau-worker ]]; then bin=${PLATEAU_BIN:-$folder/build/release/bin} tests=$bin/../tests; fi
worker=$bin/plateau-worker
[[ -x $worker ]] || refuse "$worker is missing; run it from the unpacked bundle, or after deploy/build.sh"
# PyTorch's name of each network.
declare -A twins=([vgg-a]=vgg11 [vgg-b]=vgg13 [vgg-d]=vgg16 [vgg-e]=vgg19 [alexnet]=alexnet [googlenet]=googlenet [resnet-18]=resnet18 [resnet-34]=resnet34 [resnet-50]=resnet50 [resnet-101]=resnet101 [resnet-152]=resnet152)
for network in ${networks//,/ }; do
  complaint=$("$worker" summary "$network" 2>&1 >/dev/null) || refuse "--networks: ${complaint#plateau-worker summary: }"
  [[ -z $peer || -n ${twins[$network]:-} ]] || refuse "--networks: $network has no twin in torchvision to be compared with"
done

# A Python environment that is only on the PATH is told to the programs as an activated one.
if [[ -z ${VIRTUAL_ENV:-} ]] && prefix=$("$python" -c 'import sys; print(sys.prefix)' 2>/dev/null) && compgen -G "$prefix/lib/python3*/site-packages/nvidia" >/dev/null; then
  export VIRTUAL_ENV=$prefix
fi

# ---- time: SECONDS counts from the start of the script
left() { echo $((minutes * 60 - SECONDS)); }
# bounded MOST COMMAND...: within MOST seconds and what is left of the whole; 124 or 137 when it was ended, 125 when the whole's time
# was over before it or in its midst.
bounded() {
  local most=$1 rest code=0
  shift
  rest=$(($(left) - 10))
  ((rest > 0)) || return 125
  timeout -k 10 "$((rest < most ? rest : most))" "$@" || code=$?
  if ((rest < most && (code == 124 || code == 137))); then code=125; fi
  return "$code"
}
# ended CODE: what a code of `bounded` says of the time, or the code.
ended() {
  case $1 in
    124 | 137) echo "ended: it ran past its time" ;;
    125) echo "no time was left for all of it" ;;
    *) echo "exit code $1" ;;
  esac
}

# ---- is there a device? What is written until that is known goes with the script.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export TMPDIR=$scratch # of what the programs leave when they are ended
kept=$scratch

# finding NAME: text of a finding in the doctor's JSON, a key a line.
finding() {
  awk -v name="$1" 'index($0, "\"name\": \"" name "\"") {on = 1} on && /"text":/ {sub(/^ *"text": "/, ""); sub(/",?$/, ""); print; exit}' "$kept/doctor.json"
}
failed=0
bounded 180 "$worker" doctor --timeout 120 --json >"$kept/doctor.json" 2>"$kept/doctor.log" || failed=1
device=$(finding 'device 0')
if [[ -z $device ]]; then
  reason=$(finding devices)
  [[ -s $kept/doctor.json ]] || reason="the doctor came to no end: $(tail -c 300 "$kept/doctor.log")"
  echo "gpu-check: no device answers: ${reason#none: }" >&2
  exit 3
fi
kept=$(dirname "$out")/gpu-check
if ((packed)); then kept=$scratch/gpu-check; fi
complaint=$(mkdir -p "$(dirname "$out")" "$kept" 2>&1) || refuse "--out $out: ${complaint#mkdir: }; name a file in a folder of yours"
mv "$scratch"/doctor.* "$kept"
if ((failed)); then echo "gpu-check: the doctor found something that fails; going on: $worker doctor" >&2; fi

# The test programs are linked with CUDA's libraries; they are where the doctor found them.
paths=$(awk '/"name": "lib(cu|nccl|nv)/ {on = 1} on && /"text":/ {if (sub(/^ *"text": "\//, "/")) {sub(/\/[^\/]*",?$/, ""); print} on = 0}' "$kept/doctor.json" | sort -u | paste -sd:)
rows=() speeds=()
# The table of what is known so far: one that is ended from outside leaves that.
write_table() {
  {
    echo "# GPU check, $(date -u +%Y-%m-%dT%H:%MZ)"
    echo
    echo "$device; $(finding versions); $(finding plateau); $(uname -sr)"
    echo
    echo "| what | | |"
    echo "|---|---|---|"
    printf '%s\n' "${rows[@]}"
    echo
    echo "Training steps of batch $batch, 224 x 224, images a second: median of $steps steps, the better of $rounds turns. PyTorch: ${peer:-not compared (--peer)}."
    echo "GEMM share: direct-equivalent operations a second by those of this device's large matrix products in the same precision, measured in the same run."
    echo
    echo "| network | precision | Plateau | PyTorch | ratio | GEMM share |"
    echo "|---|---|---:|---:|---:|---:|"
    if ((${#speeds[@]})); then printf '%s\n' "${speeds[@]}"; fi
    echo
    echo "Time of each layer and pass beside its floor: gpu-check/NETWORK-PRECISION-TURN.json. All took $SECONDS s."
  } >"$out.part"
  mv "$out.part" "$out" # whoever ends the script finds a whole one
  if ((packed)); then
    tar -czf "${out%/*}/gpu-check.tar.gz.part" -C "$scratch" gpu-check
    mv "${out%/*}/gpu-check.tar.gz.part" "${out%/*}/gpu-check.tar.gz"
  fi
}
row() {
  rows+=("| $1 | $2 | $3 |")
  write_table
}
row "doctor" "$( ((failed)) && echo FAILED || echo right)" "$device; $(finding versions)"

# ---- tests, within half of the time: those of operators, engine and trainer first
ran=0
declare -A tried=()
for program in "$tests"/gpu_{conv_op,fc_op,cuda_engine,cuda_trainer,cuda_scorer,cuda_networks}_test "$tests"/gpu_*; do
  [[ -x $program ]] || continue
  name=${program##*/}
  [[ -z ${tried[$name]:-} ]] || continue # it was among the first
  tried[$name]=1
  ran=$((ran + 1))
  most=$((minutes * 30 - SECONDS))
  if ((most < 5)); then
    row "$name" "not run" "no time was left for it (--minutes $minutes)"
    continue
  fi
  echo "gpu-check: $name" >&2
  code=0
  LD_LIBRARY_PATH=$paths${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} bounded "$((most < 300 ? most : 300))" "$program" --gtest_color=no >"$kept/$name.log" 2>&1 || code=$?
  if ((most < 300 && (code == 124 || code == 137))); then code=125; fi # half of the whole was over
  passed=$(sed -n 's/^\[  PASSED  \] \([0-9]*\) test.*/\1/p' "$kept/$name.log")
  skipped=$(sed -n 's/^\[  SKIPPED \] \([0-9]*\) test.*/\1/p' "$kept/$name.log")
  if ((code == 0)) && ((${passed:-0} == 0)); then
    row "$name" "not run" "all of it was skipped, see gpu-check/$name.log"
  elif ((code == 0)); then
    row "$name" right "${passed:-0} passed${skipped:+, $skipped skipped}"
  elif ((code == 125)); then
    row "$name" "not run" "no time was left for all of it (--minutes $minutes)"
  else
    failed=1
    row "$name" FAILED "$(ended "$code"); $(grep -cE '^\[  FAILED  \] [A-Za-z]+.*\.' "$kept/$name.log" || true) lines of failures, see gpu-check/$name.log"
  fi
done
if ((ran == 0)); then row "gpu tests" "not run" "none in $tests: bundle.sh --with-tests, or deploy/build.sh release gpu_tests"; fi

# ---- speed
# number FILE KEY: the first value of a key in the benchmark's JSON.
number() { sed -n "s/^ *\"$2\": \([-0-9.e+]*\),\{0,1\}$/\1/p" "$1" | sed -n 1p; }
larger() { awk -v a="${1:-0}" -v b="${2:-0}" 'BEGIN {print (a + 0 > b + 0) ? a : b}'; }
for precision in ${precisions//,/ }; do
  for network in ${networks//,/ }; do
    own=0 theirs=0 share='' code=0
    mode=$precision
    if [[ $precision == bf16 ]]; then mode=bf16-compile; fi
    for ((round = 1; round <= rounds; ++round)); do # turn by turn, so that both see the same clocks
      log=$kept/$network-$precision-$round.json
      echo "gpu-check: $network, $precision, turn $round of $rounds" >&2
      bounded 600 "$worker" bench --network "$network" --batch "$batch" --steps "$steps" --device cuda --precision "$precision" --json >"$log" 2>"$log.err" || code=$?
      ((code == 0)) || break
      median=$(number "$log" median)
      if awk -v a="$median" -v b="$own" 'BEGIN {exit !(a + 0 > b + 0)}'; then own=$median share=$(number "$log" gemm_share); fi
      [[ -n $peer ]] || continue
      other=0
      bounded 600 "$python" "$peer" "${twins[$network]}" "$batch" "$mode" "$steps" >"$log.peer" 2>&1 || other=$?
      if ((other)); then
        echo "gpu-check: the peer: $(ended "$other"), see $log.peer" >&2
        ((other == 125)) || failed=1
        row "$network, $precision, PyTorch" "$( ((other == 125)) && echo "not run" || echo FAILED)" "$(ended "$other"), see ${log##*/}.peer"
        continue
      fi
      theirs=$(larger "$theirs" "$(sed -n 's/.* median \([0-9.]*\).*/\1/p' "$log.peer" | tail -1)")
    done
    if ((code)) && ! awk -v a="$own" 'BEGIN {exit !(a > 0)}'; then # no turn came to its end
      ((code == 125)) || failed=1
      speeds+=("| $network | $precision | $( ((code == 125)) || echo "FAILED: ")$(ended "$code") $(head -c 300 "$log.err" | tr '\n|' '  ') | | | |")
      write_table
      continue
    fi
    ((code == 0 || code == 125)) || failed=1
    ratio='' shown=''
    if awk -v t="$theirs" 'BEGIN {exit !(t > 0)}'; then ratio=$(awk -v a="$own" -v b="$theirs" 'BEGIN {printf "%.2f", a / b}') shown=$theirs; fi
    speeds+=("| $network | $precision | $(printf %.1f "$own") | $shown | $ratio | $(awk -v s="$share" 'BEGIN {printf "%.1f%%", 100 * s}') |")
    write_table
  done
done

# ---- memory errors
sanitizer=$(command -v compute-sanitizer || find /usr/local/cuda*/bin -name compute-sanitizer 2>/dev/null | tail -1 || true)
small=(bench --network vgg-a --width 0.0625 --crop 32 --batch 8 --classes 10 --steps 1 --device cuda)
if [[ -n $sanitizer ]]; then
  for precision in bf16 fp32; do
    echo "gpu-check: compute-sanitizer, $precision" >&2
    code=0
    bounded 600 "$sanitizer" --tool memcheck --leak-check no --error-exitcode 9 "$worker" "${small[@]}" --precision "$precision" >"$kept/memcheck-$precision.log" 2>&1 || code=$?
    if ((code == 0)); then
      row "compute-sanitizer, $precision" right "no memory error in a small step"
    elif ((code == 125)); then
      row "compute-sanitizer, $precision" "not run" "no time was left for it (--minutes $minutes)"
    else
      failed=1
      row "compute-sanitizer, $precision" FAILED "$(ended "$code"), see gpu-check/memcheck-$precision.log"
    fi
  done
else
  row compute-sanitizer "not run" "not found: it comes with the CUDA Toolkit"
fi

write_table
cat "$out"
exit "$failed"
