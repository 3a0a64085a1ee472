#!/usr/bin/env bash
# What there is to know of this library on a GPU, in at most 8 minutes and one file, gpu_check.json:
#
#     scripts/gpu_check.sh [--output FILE]     on a GPU
#     scripts/gpu_check.sh --dry-run           the same in small, on a CPU
#
# PYTHON=... names a Python with torch. In a checkout, cargo builds the programs; what `make gpu-bundle`
# makes has them, and this script, for a machine without Rust: there PYTHON needs the torch that they
# were built for (bundle.json).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec "${PYTHON:-python3}" "$here/gpu_check/check.py" "$@"
