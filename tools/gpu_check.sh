#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The checks that need a CUDA GPU, and no ROS: the tests marked gpu, both benchmarks, and the
# engine's options one by one (int8 and fp8 need torchao).
#
#   tools/gpu_check.sh results                     # about seven minutes
#   PYTHON=.venv/bin/python tools/gpu_check.sh results
#   SD3_TIMEOUT=4000 SD3_LIMIT=3600 SD3_SECONDS=3600 tools/gpu_check.sh results   # every cell
#
# Leaves tests.log, embedded.log, embedded.json, sd3.log, sd3.json, options.log, options.json in the
# folder. The large network's engine is compiled, which pays there. A part that fails or takes too
# long does not stop the others; the status says how many.
set -u
[ $# -eq 1 ] || { echo "usage: tools/gpu_check.sh FOLDER" >&2; exit 2; }
mkdir -p "$1" || exit 2
results=$(CDPATH= cd -- "$1" && pwd)
cd "$(dirname -- "$0")/.." || exit 2
python=${PYTHON:-python3}
export PYTHONUNBUFFERED=1 PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" COLUMNS=120
failed=0

# part NAME SECONDS COMMAND...: runs it for that long at most, shows it and keeps what it prints
part() {
    name=$1 seconds=$2
    shift 2
    begun=$(date +%s)
    {
        timeout -k 5 "$seconds" "$@" 2>&1
        echo "$?" >"$results/.status"
    } | tee "$results/$name.log"
    status=$(cat "$results/.status")
    rm -f "$results/.status"
    echo "== $name: exit status $status after $(($(date +%s) - begun)) s" | tee -a "$results/$name.log"
    [ "$status" -eq 0 ] || failed=$((failed + 1))
}

bench() {
    name=$1 seconds=$2
    shift 2
    part "$name" "$seconds" "$python" -m diception_ros.cli --debug bench --device cuda \
        --json "$results/$name.json" "$@"
}

"$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' ||
    { echo "gpu_check: this torch sees no CUDA GPU" >&2; exit 2; }
part tests "${TESTS_TIMEOUT:-90}" "$python" -m pytest -p no:cacheprovider -m gpu --durations=5 \
    -q test/engine test/training/live
bench embedded "${EMBEDDED_TIMEOUT:-75}" --seconds "${EMBEDDED_SECONDS:-54}" \
    --limit "${EMBEDDED_LIMIT:-25}" --compiled
bench sd3 "${SD3_TIMEOUT:-180}" --sd3 --compile --not-compiled --seconds "${SD3_SECONDS:-60}" \
    --limit "${SD3_LIMIT:-90}"
part options "${OPTIONS_TIMEOUT:-150}" "$python" benchmarks/options.py --sd3 --device cuda \
    --json "$results/options.json"
echo "== $failed parts failed; results in $1"
exit "$failed"
