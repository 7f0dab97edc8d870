#!/bin/bash
# bench_gpu.sh PROGRAM FACTS [PYTHON [LIBRARIES]]: speed and memory on this machine's GPU, beside PyTorch where PYTHON has it; one
# table, one run. PROGRAM is test/gpu/bench_gpu.c, FACTS test/gpu/facts.c ("" with SMOKE=1). Without a GPU: a line that
# says so, and "0 passed, 0 failed, 1 skipped". LIBRARIES: folders of our cuDNN, for our program alone: PyTorch brings
# a cuDNN of its own, which LD_LIBRARY_PATH would take from it.
#
# Training: a step at batch 32 and patch 64 of Vanilla, Lean, Regular and Deep HVAE and of the Regular HAE; ours in fp16
# as recorded graphs, with the libraries' first choice of convolutions and with timed ones (`ways` tells which was faster
# and is listed), PyTorch eager with autocast, eager and channels last, and torch.compile in three modes: of those
# the fastest counts, and eager is listed by itself. Prediction: a frame of 2720 x 2720 with inner padding 24.
# Floor: multiply-adds at the rate of a large half product, or the kept activations written once and read twice at the
# rate of a large copy, whichever takes longer; both rates measured through PyTorch in the same run.
#
# Environment: ROWS, STEPS, REPEAT; TUNES="0" leaves out timed convolutions, MODES="default" (or "") modes of
# torch.compile, each of which takes minutes. SMOKE=1: tiny sizes on the CPU, to try the program, the peer and the table.
set -u
program=$1 facts=$2 python=${3:-python3} libraries=${4:-}
[ -n "${LD_LIBRARY_PATH:-}" ] && libraries=${libraries:+$libraries:}$LD_LIBRARY_PATH
peer=$(dirname "$0")/../bench/peer_torch.py
rows=${ROWS:-hvae/vanilla hvae/lean hvae/regular hvae/deep hae/regular}
steps=${STEPS:-400} repeat=${REPEAT:-50}
device=cuda:0 ours='' theirs='--warmup 5' frame='--frame 2720 --pad 24' tile_batch=256
autocast=--autocast modes=${MODES-default reduce-overhead max-autotune} tunes=${TUNES:-0 1}
if [ -n "${SMOKE:-}" ]; then
    device=cpu steps=30 repeat=2 rows=${ROWS:-hvae/lean} modes='' tile_batch=4
    ours='--batch 2 --filters 8 --levels 2 --lc 2 --z 8 --patch 32 --threads 1' frame='--frame 80 --pad 8'
    theirs='--warmup 1 --filters 8 --levels 2 --lateral 2 --z-dim 8 --patch 32 --threads 1'
else
    found=$(LD_LIBRARY_PATH=$libraries "$facts")
    if [ $? != 0 ]; then
        echo "skipped: no GPU to measure on: $found"
        echo "0 passed, 0 failed, 1 skipped"
        exit 0
    fi
    echo "GPU: $found"
fi
batch=$(sed -n 's/.*--batch \([0-9]*\).*/\1/p' <<< "$ours")
theirs_batch=${batch:-32}

field() { sed -n 's/.*"'"$2"'": *"\{0,1\}\([^",}]*\).*/\1/p' <<< "$1"; }
calculate() { awk "BEGIN { $1 }"; }
run_peer() { "$python" "$peer" --device "${device%%:*}" "$@" 2>> "$log" | tail -n 1; }

# What needs no process of its own asks one that has loaded PyTorch: compiled networks keep memory, the others do not.
ask_peer() {
    echo "$*" >&"$asked" && IFS= read -r reply <&"$answers" && echo "$reply"
}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
gflops='' copy=''
if "$python" -c 'import torch' 2> /dev/null; then
    coproc "$python" "$peer" --device "${device%%:*}" --lines 2>> "$log"
    exec {answers}<&"${COPROC[0]}" {asked}>&"${COPROC[1]}"
    floor=$(ask_peer --floor)
    gflops=$(field "$floor" gflops) copy=$(field "$floor" copy_gb_per_s)
    echo "peer: PyTorch $(field "$floor" torch) on $(field "$floor" name); half product $gflops GFLOP/s, copy $copy GB/s"
else
    echo "peer: $python has no torch; only our own numbers, no floor (PYTHON=... names another one)"
fi

# Our faster line: with the first choice of convolutions, or with timed ones.
ours_best() {   # MODE ARGUMENTS...
    local best='' least='' tune line seconds
    for tune in $tunes; do
        line=$(LD_LIBRARY_PATH=$libraries "$program" --device "$device" --family "$family" --variant "$variant" --tune $tune --mode "$@" 2>> "$log")
        seconds=$(field "$line" seconds)
        [ -n "$seconds" ] || continue
        if [ -z "$least" ] || [ "$(printf '%s\n' "$least" "$seconds" | sort -g | head -1)" != "$least" ]; then
            best=$line least=$seconds
        fi
    done
    echo "$best"
}

# Fastest and leanest of the settings, as "seconds MiB"; and those of eager alone.
peer_train() {  # family variant
    local best='' least='' eager='' line s m how
    local settings=("$autocast" "$autocast --channels-last")
    for mode in $modes; do
        settings+=("$autocast --compile --compile-mode $mode")
    done
    for set in "${settings[@]}"; do
        case $set in *compile*) how=run_peer ;; *) how=ask_peer ;; esac
        line=$($how --mode train --family "$1" --variant "$2" $theirs --batch "$theirs_batch" --repeat "$repeat" $set)
        s=$(field "$line" seconds) m=$(field "$line" device_mib)
        [ -n "$s" ] || { echo "peer_torch $1 $2 $set failed" >> "$log"; continue; }
        [ $how = run_peer ] || eager=$(printf '%s\n' $eager "$s" | sort -g | head -1)
        best=$(printf '%s\n' $best "$s" | sort -g | head -1)
        least=$(printf '%s\n' $least "$m" | sort -g | head -1)
    done
    echo "${best:--} ${least:--} ${eager:--}"
}

short() { [ "$1" = - ] && echo - || printf "%.5f" "$1"; }
ratio() { [ "$1" = - ] && echo - || calculate "printf \"%.2fx\", $1 / ($2 > 0 ? $2 : 1)"; }

printf '\n%-18s %12s %6s %10s %8s %12s %12s %10s %10s %8s %8s\n' network 'ours s' ways 'ours MiB' 'of floor' 'eager s' \
    'best peer s' 'peer MiB' 'x eager' 'x best' memory
passed=0 failed=0
row() {         # name, line of ours, bytes moved, peer best, peer MiB, eager
    local s m share=-
    s=$(field "$2" seconds) m=$(field "$2" device_mib)
    if [ -z "$s" ]; then
        echo "$1: failed: $(tail -n 1 "$log")"
        failed=$((failed + 1))
        return
    fi
    if [ -n "$gflops" ]; then
        share=$(calculate "a = 2e-9 * $(field "$2" macs) / $gflops; b = $3 / 1e9 / $copy; printf \"%.0f%%\", 100 * (a > b ? a : b) / $s")
    fi
    printf '%-18s %12.5f %6s %10.0f %8s %12s %12s %10s %10s %8s %8s\n' "$1" "$s" \
        "$([ "$(field "$2" tune)" = 1 ] && echo timed || echo first)" "$m" "$share" "$(short "$6")" "$(short "$4")" "$5" \
        "$(ratio "$6" "$s")" "$(ratio "$4" "$s")" "$(ratio "$5" "$m")"
    passed=$((passed + 1))
}
for pair in $rows; do
    family=${pair%/*} variant=${pair#*/}
    line=$(ours_best train --steps "$steps" $ours)
    set -- - - -
    [ -n "$gflops" ] && set -- $(peer_train "$family" "$variant")
    kept=$(field "$line" kept_mib)
    row "$pair train" "$line" "$(calculate "print 3 * 1048576 * ${kept:-0}")" "$1" "$2" "$3"
done
for pair in $rows; do
    family=${pair%/*} variant=${pair#*/}
    line=$(ours_best split $ours $frame)
    set -- - -
    if [ -n "$gflops" ]; then
        peer_line=$(ask_peer --mode split --family "$family" --variant "$variant" $theirs --batch "$tile_batch" --warmup 1 --repeat 2 \
            $frame $autocast)
        set -- "$(field "$peer_line" seconds)" "$(field "$peer_line" device_mib)"
    fi
    row "$pair split" "$line" 0 "${1:--}" "${2:--}" "${1:--}"
done
echo
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
