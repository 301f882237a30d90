#!/usr/bin/env bash
# System packages that the tests need. `make test` calls it: it installs them where it may, else names them in one line.
set -euo pipefail

missing=()
command -v cc >/dev/null || missing+=(gcc libc6-dev)   # the fake NVML is a small C library
PATH="$PATH:/usr/sbin" command -v haproxy >/dev/null || missing+=(haproxy)   # an ingress, and TLS before Triton's HTTP
command -v prometheus-pushgateway >/dev/null || missing+=(prometheus-pushgateway)   # takes the figures of a verdict
# The report pages are tested in a browser, with axe-core from npm.
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null ||
  missing+=(chromium)
command -v npm >/dev/null || missing+=(nodejs npm)
# Debian keeps the library that Triton's Python stub needs apart from Python; `available` names its package.
libpython=$(.venv/bin/python -c 'from harness.embedded import available; print(available() or "")' |
  sed -n 's/.*apt-get install \(libpython3\.[0-9]*\),.*/\1/p')
[ -z "$libpython" ] || missing+=("$libpython")

if [ "${#missing[@]}" -gt 0 ]; then
  if command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  else
    echo "missing: ${missing[*]} (apt-get install them); the tests that need them are skipped" >&2
  fi
fi

browser=tests/report/browser
if command -v npm >/dev/null && ! [ "$browser/node_modules/.package-lock.json" -nt "$browser/package-lock.json" ]; then
  npm ci --prefix "$browser" --ignore-scripts --no-audit --no-fund --silent
fi
