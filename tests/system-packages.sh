#!/usr/bin/env bash
# System packages that the tests need. `make test` calls it: it installs them where it may, else names them in one line.
set -euo pipefail

missing=()
command -v cc >/dev/null || missing+=(gcc libc6-dev)   # the fake NVML is a small C library
PATH="$PATH:/usr/sbin" command -v haproxy >/dev/null || missing+=(haproxy)   # an ingress, and TLS before Triton's HTTP
# Debian keeps the library that Triton's Python stub needs apart from Python; `available` names its package.
libpython=$(.venv/bin/python -c 'from harness.embedded import available; print(available() or "")' |
  sed -n 's/.*apt-get install \(libpython3\.[0-9]*\),.*/\1/p')
[ -z "$libpython" ] || missing+=("$libpython")
[ "${#missing[@]}" -eq 0 ] && exit 0

if command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
else
  echo "missing: ${missing[*]} (apt-get install them); the tests that need them are skipped" >&2
fi
