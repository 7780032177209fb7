#!/usr/bin/env bash
# What only a CUDA device can show, in at most 9 minutes on one device:
#   benchmarks/speed/cuda.sh [--dry-run | --tiny] [OUTPUT]
# --dry-run  print the commands and run none
# --tiny     run the same parts with tiny models on the CPU, to see that they run; no figure means anything
# OUTPUT     directory of the results, seen from the repository's root (default: results/cuda, with --tiny
#            results/cuda-tiny); it is gone on with
# PYTHON     the interpreter (default: python)
# MODEL      a folder or Hub id of a larger model: data to text with it frozen; left out if it is not set
# SECONDS_IN_ALL  of all parts together (default: 540); a part that the time does not reach says "not run"
set -u

mode=run output= python=${PYTHON:-python} limit=${SECONDS_IN_ALL:-540}
for argument in "$@"; do
    case $argument in
        --dry-run | --tiny) mode=${argument#--} ;;
        -*) echo "error: $argument: expected --dry-run, --tiny or a directory" >&2; exit 2 ;;
        *) output=$argument ;;
    esac
done
cd "$(dirname "$0")/../.." || exit 2
device=cuda quick= failed=0
[ "$mode" = tiny ] && device=cpu quick=--quick
output=${output:-results/cuda${quick:+-tiny}}
if [ "$mode" = run ] && ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    echo "error: no CUDA device; --dry-run prints what would run, --tiny tries it on the CPU" >&2
    exit 2
fi

part() { # name, most seconds, command ...
    local name=$1 most=$2 left=$((limit - SECONDS)) status
    shift 2
    echo "== $name: $*"
    [ "$mode" = dry-run ] && return
    if [ "$left" -lt 10 ]; then
        echo "== $name: not run: all of the $limit seconds are gone"
        failed=1
        return
    fi
    timeout --signal=INT --kill-after=10 $((most < left ? most : left)) "$@" >"$output/$name.log" 2>&1
    status=$?
    tail -n 60 "$output/$name.log"
    [ "$status" -eq 0 ] || failed=1
    echo "== $name: exit status $status, $SECONDS s gone"
}

speed() { # name, most seconds, options of the benchmark ...
    local name=$1 most=$2
    shift 2
    part "$name" "$most" "$python" -m benchmarks.speed $quick --device $device --output "$output/$name" "$@"
}

[ "$mode" = dry-run ] || mkdir -p "$output" || exit 2
gpt2=gpt2 llama=llama-1b captured=gantune-captured
[ "$mode" = tiny ] && gpt2=tiny llama=tiny-llama captured=

part tests 100 "$python" -m pytest tests/test_captured_decoding.py tests/test_diagnostics.py -n 0 -m cuda -v
speed gpt2 170 --sizes $gpt2 --batch-sizes 1 4 16 --lengths 50 200 --repeats 5 \
    --contenders lora lora-answers gantune $captured source
speed llama-1b 100 --sizes $llama --batch-sizes 4 --dtypes bfloat16 --lengths 50 --repeats 5 \
    --contenders lora lora-answers gantune $captured
if [ "$mode" = dry-run ] || "$python" -c 'import trl' 2>/dev/null; then
    speed gpt2-peers 90 --peers trl --sizes $gpt2 --batch-sizes 4 --dtypes float32 --repeats 3
    speed llama-1b-peers 90 --peers trl --sizes $llama --batch-sizes 4 --dtypes bfloat16 --repeats 3
else
    echo "== peers: not run: trl is not installed, expected pip install 'gantune[peers]'"
fi
if [ -n "${MODEL:-}" ]; then
    # few pairs and epochs, so that the game begins in time
    part data-to-text 120 "$python" -m benchmarks.compare --preset data-to-text --model "$MODEL" --device $device \
        --train-size 100 --test-size 100 --num-train-epochs 10 --memory-snapshot --output "$output/data-to-text"
else
    echo "== data-to-text: not run: MODEL names no model"
fi
exit $failed
