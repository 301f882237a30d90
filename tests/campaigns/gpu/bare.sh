#!/usr/bin/env bash
# On a machine with a GPU, PyTorch and Python 3.12 that reaches no registry: takes one of the pieces that
# `python -m tests.campaigns.gpu.pack` made, or several, in any order. With the last one it makes everything ready, says
# what the machine has, and from then on `. $GPU_STATE/env.sh` puts triton-canary on the PATH. Called again, with or
# without a piece, it only makes sure: from another checkout, the new one is used.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export GPU_STATE=${GPU_STATE:-/tmp/triton-canary-gpu}
python3 "$here/assemble.py" "$@"
[ -e "$GPU_STATE/env.sh" ] || exit 0
. "$GPU_STATE/env.sh"
triton-canary doctor
