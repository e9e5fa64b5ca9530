#!/usr/bin/env bash
# Makes one archive that runs from any folder on Debian 12, Ubuntu 24.04 and other systems with glibc 2.36 or newer, without root and
# without packages: the three programs, the CUDA backend, an Open MPI, and every shared object that they need but glibc's and CUDA's.
#
# Usage: deploy/bundle.sh [--with-tests] [--no-build] [--no-smoke] [OUT]
#   --with-tests   also the test programs that need a GPU, for deploy/gpu-check.sh
#   --no-build     build/release is built already
#   --no-smoke     do not try the archive
#   OUT            the archive (default: build/plateau-VERSION-linux-x86_64.tar.zst)
# Unpack it with `tar --zstd -xf OUT` and run bin/plateau. The same sources and packages give the same bytes.
set -euo pipefail
caller=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() { sed -n '/^# Usage/,/^# Unpack/p' deploy/bundle.sh | sed 's/^# \{0,1\}//'; }
refuse() {
  printf 'bundle: %s; --help says more\n' "$*" >&2
  exit 2
}
fail() {
  printf 'bundle: %s\n' "$*" >&2
  exit 1
}

with_tests=0 build=1 smoke=1 out=''
while (($# > 0)); do
  case $1 in
    --with-tests) with_tests=1 ;;
    --no-build) build=0 ;;
    --no-smoke) smoke=0 ;;
    --help | -h)
      usage
      exit 0
      ;;
    -*) refuse "there is no option $1" ;;
    *)
      [[ -z $out ]] || refuse "one archive at a time: $out or $1"
      out=$1
      ;;
  esac
  shift
done
version=$(sed -n 's/^project(plateau VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
out=${out:-build/plateau-$version-linux-x86_64.tar.zst}
[[ $out == /* || $out == build/* ]] || out=$caller/$out
for tool in patchelf zstd strip; do
  command -v "$tool" >/dev/null || fail "$tool is missing: apt-get install patchelf zstd binutils"
done

built=build/release
tests=()
if ((build)); then
  deploy/build.sh release
  if ((with_tests)); then PLATEAU_SKIP_DEPS=1 deploy/build.sh release gpu_tests; fi
fi
for program in plateau plateau-coordinator plateau-worker; do
  [[ -x $built/bin/$program ]] || fail "$built/bin/$program is missing; run it without --no-build"
done
if ((with_tests)); then
  mapfile -t tests < <(find "$built/tests" -maxdepth 1 -name 'gpu_*' -type f -executable | sort)
  ((${#tests[@]} > 0)) || fail "$built/tests holds no gpu_* programs: this build has no CUDA"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
top=$work/plateau-$version
mpi=lib/x86_64-linux-gnu/openmpi/lib/openmpi3 # below OPAL_PREFIX, as in Debian
mkdir -p "$top"/{bin,lib/plateau,libexec,licenses,deploy/recipes} "$top/$mpi" "$top/share/openmpi"

# ---- what is taken along
install -m 755 "$built"/bin/{plateau,plateau-coordinator,plateau-worker} "$top/bin"
if [[ -f $built/bin/libplateau_cuda.so ]]; then install -m 755 "$built/bin/libplateau_cuda.so" "$top/lib/plateau"; fi
if ((with_tests)); then
  mkdir "$top/tests"
  install -m 755 "${tests[@]}" "$top/tests"
fi
install -m 755 "$(readlink -f "$(command -v orterun)")" "$top/libexec/orterun"
install -m 755 "$(command -v orted)" "$top/libexec/orted"
plugins=$(ompi_info --parsable --path pkglibdir | sed 's/.*://')
[[ -d $plugins ]] || fail "Open MPI's plugins are not in \"$plugins\""
# Shared memory and TCP. Plugins for other networks, batch systems, files and OpenSHMEM would bring along libraries that are not used.
for plugin in "$plugins"/*.so; do
  case ${plugin##*/} in
    *ucx* | *ofi* | *openib* | *psm* | *pml_cm* | *flux* | *jsm* | *gridengine* | *simulator* | *monitoring*) ;;
    mca_io_* | mca_fs_* | mca_fbtl_* | mca_fcoll_* | mca_sharedfp_* | mca_memheap_* | mca_atomic_* | mca_scoll_* | mca_spml_* | mca_sshmem_*) ;;
    mca_*) install -m 644 "$plugin" "$top/$mpi" ;;
  esac
done
cp "$(ompi_info --parsable --path pkgdatadir | sed 's/.*://')"/*.txt "$top/share/openmpi"
# PMIx, which Open MPI speaks with its ranks, has plugins and texts of its own.
pmix=$(dirname "$(dirname "$(readlink -f "$(ldd "$plugins/mca_pmix_ext3x.so" | awk '/libpmix/ {print $3}')")")")
if [[ -d $pmix/lib/pmix ]]; then
  mkdir -p "$top"/lib/pmix2/{lib/pmix,share/pmix}
  install -m 644 "$pmix"/lib/pmix/*.so "$top/lib/pmix2/lib/pmix"
  cp "$pmix"/share/pmix/*.txt "$top/lib/pmix2/share/pmix"
fi
cp deploy/recipes/*.yaml "$top/deploy/recipes"
install -m 755 deploy/gpu-check.sh "$top/deploy"
cp README.md "$top"

# ---- shared objects: not glibc's, whose loader is the system's, and not CUDA's, which come with the driver and the Toolkit
of_glibc='^(ld-linux-x86-64|libc|libm|libmvec|libdl|libpthread|librt|libresolv|libutil|libanl|libnsl|libnss_[a-z]+|libthread_db|libBrokenLocale)\.so'
of_cuda='^(libcuda|libcudart|libcudnn|libcublas|libcublasLt|libnccl|libnvrtc|libnvJitLink)[._a-z0-9-]*\.so'
find "$top" -type f \( -name '*.so*' -o -perm -100 \) ! -name '*.sh' | sort >"$work/objects"
xargs -a "$work/objects" ldd 2>/dev/null | awk '/=>/ {print $1, $3 == "not" ? "-" : $3}' | sort -u >"$work/needed"
while read -r name path; do
  [[ $name =~ $of_glibc || $name =~ $of_cuda || $name == libplateau* ]] && continue
  [[ $path != - ]] || fail "$name is needed and not on this machine"
  install -m 644 "$path" "$top/lib/$name"
  package=$(dpkg-query -S "$(readlink -f "$path")" 2>/dev/null | sed 's/:.*//;q' || true)
  if [[ -z $package ]]; then package=$(dpkg-query -S "$path" 2>/dev/null | sed 's/:.*//;q' || true); fi
  if [[ -n $package && -f /usr/share/doc/$package/copyright ]]; then cp "/usr/share/doc/$package/copyright" "$top/licenses/$package"; fi
done <"$work/needed"

# ---- each finds the others from where it lies
find "$top" -type f \( -name '*.so*' -o -perm -100 \) ! -name '*.sh' | sort >"$work/objects"
while read -r object; do
  strip --strip-unneeded "$object"
  folder=${object%/*}
  patchelf --set-rpath "\$ORIGIN/$(realpath --relative-to="$folder" "$top/lib")" "$object"
done <"$work/objects"

cat >"$top/libexec/environment" <<'ENVIRONMENT'
# Read by bin/mpirun and bin/orted: Open MPI finds its plugins and texts below this folder. $here is the bundle's.
export OPAL_PREFIX="$here" OPAL_LIBDIR="$here/lib" OPAL_PKGLIBDIR="$here/lib/x86_64-linux-gnu/openmpi/lib/openmpi3" OPAL_PKGDATADIR="$here/share/openmpi" OPAL_SYSCONFDIR="$here/share/openmpi"
export PMIX_PREFIX="$here/lib/pmix2" PMIX_LIBDIR="$here/lib/pmix2/lib" PMIX_PKGLIBDIR="$here/lib/pmix2/lib/pmix" PMIX_PKGDATADIR="$here/lib/pmix2/share/pmix"
# Without ssh or rsh there is this machine alone.
if ! command -v ssh >/dev/null && ! command -v rsh >/dev/null && [ -z "${OMPI_MCA_plm_rsh_agent:-}" ]; then
  export OMPI_MCA_plm="${OMPI_MCA_plm:-isolated}"
fi
ENVIRONMENT
for program in mpirun:orterun orted:orted; do
  cat >"$top/bin/${program%:*}" <<WRAPPER
#!/bin/sh
# Open MPI's ${program#*:}, from whatever folder this bundle lies in.
here=\$(dirname -- "\$(dirname -- "\$(readlink -f -- "\$0")")")
. "\$here/libexec/environment"
exec "\$here/libexec/${program#*:}" "\$@"
WRAPPER
done
chmod 755 "$top"/bin/*
commit=$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
[[ -z $(git status --porcelain --untracked-files=no 2>/dev/null) ]] || commit+=" with changes"
cat >"$top/VERSION" <<VERSION
plateau $version
commit $commit
glibc 2.36 or newer
$(sed -n 's/^PLATEAU_CUDA_BUILT_WITH:INTERNAL=\(..*\)/cuda \1/p' "$built/CMakeCache.txt")
$(awk 'NR == FNR {if ($0 ~ /^Package:/) p = $2; if ($0 ~ /^Version:/) v[p] = $2; next} {print $1, v[$1]}' \
  <(dpkg-query -W -f='Package: ${Package}\nVersion: ${Version}\n') <(ls "$top/licenses"))
VERSION
sed -i '/^$/d' "$top/VERSION"

# ---- the archive
stamp=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
find "$top" -type d -exec chmod 755 {} +
mkdir -p "$(dirname "$out")"
tar -C "$work" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$stamp" --format=gnu -cf - "plateau-$version" |
  zstd -q -19 --long=27 -T2 -f -o "$out"
bytes=$(stat -c %s "$out")
printf 'bundle: %s, %s bytes (%.1f MiB), sha256 %s\n' "$out" "$bytes" "$(awk "BEGIN {print $bytes / 1048576}")" "$(sha256sum <"$out" | cut -d' ' -f1)"
((bytes <= 40 * 1048576)) || ((with_tests)) || fail "it is larger than 40 MiB"

# ---- does it run: unpacked elsewhere, with an empty environment, two ranks
((smoke)) || exit 0
there="$work/some where/else"
mkdir -p "$there"
tar -C "$there" --zstd -xf "$out"
here=$there/plateau-$version
clean=(env -i PATH=/usr/bin:/bin HOME="$work" LC_ALL=C TMPDIR="$work" OMPI_MCA_rmaps_base_oversubscribe=1)
if ((EUID == 0)); then clean+=(OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1); fi
"${clean[@]}" ldd "$here"/bin/plateau{,-coordinator,-worker} "$here"/libexec/ort* "$here/$mpi"/*.so >"$work/ldd.txt"
while read -r name path; do
  [[ $name =~ $of_glibc || $name =~ $of_cuda || $path == "$here"/* ]] || fail "$name is taken from ${path:-nowhere} instead of the bundle"
done < <(sed -n 's/^\t\([^ ]*\) => \(.*\) (0x.*/\1 \2/p; s/^\t\([^ ]*\) => not found/\1/p' "$work/ldd.txt" | sort -u)
"${clean[@]}" "$here/bin/plateau" doctor >"$work/doctor.txt" || {
  cat "$work/doctor.txt" >&2
  fail "the unpacked bundle's doctor is not content"
}
cd "$work"
"${clean[@]}" "$here/bin/plateau" dataset synthesize --out source --classes 4 --train 200 --val 40 --size 40 --seed 1 >/dev/null
"${clean[@]}" "$here/bin/plateau" dataset ingest --train source/train.tar --val source/val.tar --val-labels source/val.txt --synsets source/synset_words.txt --out store >/dev/null
"${clean[@]}" "$here/bin/mpirun" -np 2 --bind-to none "$here/bin/plateau-worker" train "$here/deploy/recipes/quickstart.yaml" --set data.store=store --set output=runs \
  --set training.max_epochs=1 --set resources.device=cpu >"$work/train.txt" 2>&1 || {
  cat "$work/train.txt" >&2
  fail "the unpacked bundle does not train with two ranks"
}
[[ -s runs/quickstart/current.json ]] || fail "the unpacked bundle's training left no checkpoint"
echo "bundle: unpacked elsewhere and with an empty environment, its doctor is content and two ranks train"
