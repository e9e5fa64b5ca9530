#!/usr/bin/env bash
# From a clean clone to a trained network: builds Plateau, makes a small data set, trains configuration A through a coordinator with two
# MPI workers, shows the learning rate fall at plateaus; then trains it again, kills a worker half-way and proves that the resumed run
# ends with the same bits.
#
# Usage: deploy/quickstart.sh [--data FOLDER] [--dir FOLDER] [--epochs N] [--no-build]
#   --data FOLDER   a real set instead of the synthetic one: train.tar, val.tar, val.txt and synset_words.txt (ILSVRC names work too),
#                   or train/ and val/ with a folder for each class. The full recipe; it takes as long as the set needs.
#   --dir FOLDER    where everything goes (default: a new folder below ${TMPDIR:-/tmp}); kept afterwards
#   --epochs N      at most N epochs
#   --no-build      the programs are built already (in build/release/bin, or in the folder that $PLATEAU_BIN names)
# Exit code: 0 when every step did what it should.
set -euo pipefail
caller=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  sed -n '/^# Usage/,/^# Exit/p' deploy/quickstart.sh | sed 's/^# \{0,1\}//' >&2
  exit 2
}

data='' dir='' epochs='' build=1
while (($# > 0)); do
  case $1 in
    --data | --dir | --epochs)
      (($# > 1)) || usage
      printf -v "${1#--}" %s "$2"
      shift 2
      ;;
    --no-build)
      build=0
      shift
      ;;
    *) usage ;;
  esac
done
[[ -z $data || $data == /* ]] || data=$caller/$data
[[ -z $dir || $dir == /* ]] || dir=$caller/$dir
[[ -z $epochs || $epochs =~ ^[1-9][0-9]*$ ]] || usage

bin=${PLATEAU_BIN:-$PWD/build/release/bin}
plateau=$bin/plateau
step() { printf '\n==> %s\n' "$*"; }
fail() {
  printf 'quickstart: %s\n' "$*" >&2
  exit 1
}

state=''
cleanup() {
  local code=$?
  trap '' INT TERM # a second Ctrl-C must not leave a coordinator behind
  trap - EXIT
  if [[ -n $state && -e $state/endpoints.json ]]; then
    if ((code != 0)); then echo "quickstart: stopping its jobs and its coordinator" >&2; fi
    "$plateau" down --state "$state" --cancel-jobs >/dev/null || echo "quickstart: a coordinator may still run; $plateau down --state $state" >&2
  fi
  if ((code != 0)) && [[ -n $dir ]]; then echo "quickstart: stopped with exit code $code; what it made is in $dir" >&2; fi
  exit "$code"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

if ((build)); then
  step "Building (the first time takes some minutes)"
  deploy/build.sh release
fi
[[ -x $plateau && -x $bin/plateau-coordinator && -x $bin/plateau-worker ]] || fail "$bin lacks the programs; run deploy/build.sh"

began=$SECONDS
if [[ -z $dir ]]; then dir=$(mktemp -d "${TMPDIR:-/tmp}/plateau-quickstart-XXXXXX"); fi
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
state=$dir/state

# first_of FILE...: the first that exists.
first_of() {
  local path
  for path in "$@"; do
    if [[ -e $path ]]; then
      echo "$path"
      return
    fi
  done
  fail "none of these is there: $*"
}

if [[ -z $data ]]; then
  step "Making a data set in the shape of ImageNet's tars"
  recipe=deploy/recipes/quickstart.yaml
  "$plateau" dataset synthesize --out "$dir/source" --classes 10 --train 2400 --val 400 --size 48 --seed 1 --overwrite
  data=$dir/source
else
  [[ -d $data ]] || fail "--data $data: there is no such folder"
  recipe=deploy/recipes/vgg-a-tiny.yaml
fi

step "Ingesting it into a record store"
if [[ -d $data/train && -d $data/val ]]; then
  source=(--layout folder --train "$data/train" --val "$data/val")
else
  source=(--layout ilsvrc --train "$(first_of "$data"/{ILSVRC2012_img_train,train}.tar)" --val "$(first_of "$data"/{ILSVRC2012_img_val,val}.tar)"
    --val-labels "$(first_of "$data/val.txt")" --synsets "$(first_of "$data/synset_words.txt")")
fi
"$plateau" dataset ingest "${source[@]}" --out "$dir/store" --jobs "$(nproc)" --overwrite
"$plateau" dataset verify "$dir/store"

step "Starting a coordinator"
"$plateau" up --state "$state" --http 127.0.0.1:0 --link 127.0.0.1:0

# field NAME: the first value of a key in the JSON on standard input, as `plateau --json` prints it: a key a line.
field() { sed -n "s/^ *\"$1\": \"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}$/\1/p" | sed -n 1p; }

# submit NAME: submits the recipe under this name and prints the job's id.
submit() {
  local settings=(--set "name=$1" --set "data.store=$dir/store" --set "output=$dir/runs")
  if [[ -n $epochs ]]; then settings+=(--set "training.max_epochs=$epochs"); fi
  "$plateau" submit "$recipe" "${settings[@]}" --state "$state" --json | field id
}

# checksum JOB: SHA-256 of the job's final weights.
checksum() {
  local output path
  output=$("$plateau" show "$1" --state "$state" --json | field output)
  path=$("$plateau" show "$1" --state "$state" --json | field path)
  sha256sum <"$output/$path/model.safetensors" | cut -d' ' -f1
}

step "Training configuration A with two workers, undisturbed"
calm=$(submit calm)
"$plateau" watch "$calm" --state "$state" --events 1000

step "What the coordinator decided at each validation"
"$plateau" lr "$calm" --state "$state"
decays=$("$plateau" lr "$calm" --state "$state" --json | grep -c '"action": "decay"' || true)

step "Training it again, and killing worker 1 with SIGKILL half-way"
killed=$(submit killed)
steps=$("$plateau" show "$calm" --state "$state" --json | field step)
"$plateau" watch "$killed" --state "$state" --until-step $((steps / 2 + 20)) --events 1000
victim=$("$plateau" show "$killed" --state "$state" --json | awk '/"rank": 1,/ {found = 1} found && /"pid":/ {gsub(/[^0-9]/, ""); print; exit}')
[[ -n $victim ]] || fail "$killed shows no worker 1 to kill; see $plateau show $killed --state $state"
kill -9 "$victim"
echo "killed worker 1 (pid $victim) after step $((steps / 2 + 20)), in the middle of an epoch"
"$plateau" watch "$killed" --state "$state" --events 3
"$plateau" show "$killed" --state "$state"

step "Comparing the two final models"
restarts=$("$plateau" show "$killed" --state "$state" --json | field restarts)
calm_sum=$(checksum "$calm")
killed_sum=$(checksum "$killed")
echo "undisturbed         $calm_sum"
echo "killed and resumed  $killed_sum"
[[ -n $calm_sum && $calm_sum == "$killed_sum" ]] || fail "the models differ"
((restarts >= 1)) || fail "the job was not restarted: the kill did not reach it"

step "Stopping the coordinator"
output=$("$plateau" show "$calm" --state "$state" --json | field output)
checkpoint=$output/$("$plateau" show "$calm" --state "$state" --json | field path)
final=$("$plateau" show "$calm" --state "$state" | awk '/^Validations/ {on = 1} on && /%/ {line = $0} /^Learning/ {on = 0} END {print line}' | awk '{print "top-1 error " $4 ", top-5 error " $5}')
"$plateau" down --state "$state"

cat <<SUMMARY

Done in $((SECONDS - began)) s after the build.
  trained           $final after $decays learning rate decay(s), each made by the coordinator at a plateau
  killed, resumed   bit-identical final weights after $restarts restart(s)
  checkpoint        $checkpoint
  everything        $dir (remove it when you have seen enough)
Next: $plateau up, then $plateau submit deploy/recipes/vgg-a-tiny.yaml --set data.store=STORE --set output=RUNS --follow
SUMMARY
((decays >= 1)) || [[ -n $epochs ]] || fail "no learning rate decay was seen"
