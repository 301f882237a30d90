#!/usr/bin/env bash
# PyTorch for .venv, called by `make setup` with the Python that made it. The models `llama` and `llama_batched` need it,
# and all models that are to run on a GPU; without it everything else works, so this never fails.
#
#   no NVIDIA GPU    the build for the CPU, with which those models are tested. pip's default index does not have it: pip
#                    has to be told of a place that does (PIP_FIND_LINKS, PIP_EXTRA_INDEX_URL). What the default index
#                    has for Linux brings 3 GB of CUDA, for which a machine without a GPU has no use.
#   NVIDIA GPU       that of the Python which made .venv, if it has one with CUDA; else the locked one is downloaded
set -euo pipefail
python=$1
node=${NVIDIA_NODE:-/dev/nvidiactl}   # the driver's

install() {   # LOCK: what pip says last, where it fails
  if ! said=$(.venv/bin/python -m pip install -q --no-deps --require-hashes -r "$1" 2>&1); then
    why=$(tail -n 1 <<<"$said")
    return 1
  fi
}

# Where "$python" has a PyTorch with CUDA that is new enough, if it has. Its version.py is read, which takes no time.
own() {
  "$python" - 2>/dev/null <<'PY'
import importlib.util, pathlib, re
spec = importlib.util.find_spec("torch")
if spec and spec.origin:
    torch = pathlib.Path(spec.origin).parent
    said = dict(re.findall(r"""^(__version__|cuda)\b[^=\n]*= *['"]([^'"]+)""", (torch / "version.py").read_text(), re.M))
    numbers = [int(part) for part in said.get("__version__", "0.0").split(".")[:2]]
    if "cuda" in said and numbers >= [2, 9]:
        print(torch.parent)
PY
}

site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
pth=$site/pytorch-of-the-machine.pth
rm -f "$pth"
if [ -e "$node" ]; then
  # from before there was a GPU: it would come first, and pip would take it for what the other lock asks for
  if compgen -G "$site/torch-*+cpu.dist-info" >/dev/null; then
    .venv/bin/python -m pip uninstall -q -y torch
  fi
  folder=$(own || true)
  if [ -n "$folder" ]; then
    echo "$folder" >"$pth"   # after the folder of .venv: what is locked comes first
    if .venv/bin/python -c 'import torch' 2>/dev/null; then
      echo "PyTorch with CUDA: that of $python"
      exit 0
    fi
    rm -f "$pth"
  fi
  echo "PyTorch with CUDA: a download of 3 GB"
  if install requirements-torch-cuda.lock; then exit 0; fi
  echo "PyTorch with CUDA is not to be had here, so models run on the CPU: $why" >&2
fi
if ! install requirements-torch.lock; then
  echo "PyTorch is not to be had here, so the models that need it are left out: $why" >&2
fi
