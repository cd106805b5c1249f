#!/usr/bin/env bash
# Build one virtual environment per peer method.
#
#   bash benchmarks/peers/setup.sh [TARGET]
#
# TARGET (default: .peers in the repository root) gets the environments metaq, seacells,
# metacells and scarches. Needs uv, and interpreters 3.10 and 3.11 or uv's right to fetch them. An environment
# that is already complete is left alone; remove its folder to build it anew.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
target="${1:-$root/.peers}"

if command -v uv >/dev/null 2>&1; then
    uv=(uv)
else
    uv=("$(command -v python || command -v python3)" -m uv)
fi

# build NAME PYTHON REQUIREMENT...
build() {
    local env="$target/$1" python="$2"
    shift 2
    [[ -f "$env/installed.txt" ]] && return
    "${uv[@]}" venv --clear --python "$python" "$env"
    "${uv[@]}" pip install --python "$env/bin/python" "$@"
    "${uv[@]}" pip freeze --python "$env/bin/python" >"$env/installed.part"
    mv "$env/installed.part" "$env/installed.txt"
}

mkdir -p "$target"

# The wheel pins torch 2.1.1, scanpy 1.9.6, scipy 1.11.3 and scikit-learn 1.1.3 (Python 3.10, numpy 1)
# but leaves open what those in turn broke with: pandas 2 removed calls that the package makes.
build metaq 3.10 "MetaQ_sc==1.0.6" "numpy<2" "pandas<2"
build seacells 3.11 "SEACells==0.3.3" "pandas<3"
build metacells 3.11 "metacells==0.9.5" "pandas<3"
build scarches 3.11 "scarches==0.6.1" "scvi-tools>=1.1,<1.3" "numpy<2" "pandas<3" "anndata<0.12" "zarr<3" "scipy<1.14"
