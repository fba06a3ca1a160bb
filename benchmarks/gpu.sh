#!/bin/sh
# Checks the suite on a CUDA machine and times it, within eight minutes: see benchmarks/gpu/README.md.
#
#   sh benchmarks/gpu.sh [--out FOLDER] [--wheels FOLDER] [--cut FOLDER] [--scenimefy FOLDER] [--limit SECONDS]
#   sh benchmarks/gpu.sh --device cpu --tiny      the same on a CPU, with tiny networks
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
wheels=
previous=
for word in "$@"; do
    [ "$previous" = --wheels ] && wheels=$word
    previous=$word
done
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
if [ -n "$wheels" ]; then
    site=$(mktemp -d)
    trap 'rm -rf "$site"' EXIT
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --target "$site" "$wheels"/*.whl
    PYTHONPATH="$site:$PYTHONPATH"
fi
export CUBLAS_WORKSPACE_CONFIG=:4096:8 # without which its products differ from run to run
export PYTHONUNBUFFERED=1
"$python" "$root/benchmarks/gpu/run.py" "$@"
