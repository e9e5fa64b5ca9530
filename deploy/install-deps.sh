#!/usr/bin/env bash
# Installs the Debian 12 packages that Plateau is built from; only what is missing, and nothing when all is there.
# Usage: deploy/install-deps.sh [--check]     --check only lists what is missing (exit 1 when something is)
set -euo pipefail

packages=(
  g++ cmake ninja-build ccache git ca-certificates                 # building
  libopenmpi-dev openmpi-bin openssh-client                        # worker/collective, launching (on other hosts by ssh)
  libdnnl-dev ocl-icd-opencl-dev                                   # worker/backend/cpu (dnnl's headers name OpenCL's)
  librocksdb-dev libarchive-dev libturbojpeg0-dev libjpeg62-turbo-dev libpng-dev zlib1g-dev  # dataset
  libzmq3-dev cppzmq-dev libboost-dev libssl-dev                   # coordinator: worker link, REST
  nlohmann-json3-dev libyaml-cpp-dev libcli11-dev libfmt-dev libspdlog-dev libexpected-dev libxxhash-dev
  libgtest-dev libgmock-dev libbenchmark-dev                       # tests
  patchelf zstd binutils                                           # deploy/bundle.sh
  iproute2 python3-zmq                                             # tests: hosts as network namespaces, the example of API.md
)

say() { echo "install-deps: $*" >&2; }

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  say "this system has no apt; Plateau is built and tested on Debian 12. Install what these Debian packages hold, then set PLATEAU_SKIP_DEPS=1:"
  say "${packages[*]}"
  exit 1
fi

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null || true)
  [[ $status == "install ok installed" ]] || missing+=("$package")
done
if ((${#missing[@]} == 0)); then
  [[ ${1:-} == --check ]] && say "nothing is missing"
  exit 0
fi
if [[ ${1:-} == --check ]]; then
  say "missing: ${missing[*]}"
  exit 1
fi

. /etc/os-release
if [[ ${ID:-} != debian || ${VERSION_ID:-} != 12 ]]; then
  say "warning: this is ${PRETTY_NAME:-an unknown system}, not Debian 12; package names and versions may differ"
fi
root=()
if ((EUID != 0)); then
  if ! command -v sudo >/dev/null; then
    say "not root and no sudo. As root, run: apt-get install --no-install-recommends ${missing[*]}"
    exit 1
  fi
  root=(sudo)
fi
say "installing ${missing[*]}"
apt=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0)
"${apt[@]}" update
"${apt[@]}" install -y --no-install-recommends "${missing[@]}" >/dev/null
