#!/bin/bash
# bench.sh FOLDER [PYTHON]: FOLDER holds the programs `bench` and `floor`. For every variant: seconds per
# patch of a training step, of predicting a whole patch, and of predicting its inner 16 of 64; peak memory;
# multiply-adds done; share of the convolution peak that floor measures. Where PYTHON can import torch,
# the same networks in PyTorch run beside them (test/bench/peer_torch.py), in several settings of
# which the fastest counts for time and the smallest for memory. A slow build of PyTorch is named and not
# compared. Every measurement is its own process; all of them stay in FOLDER/results.jsonl. A row whose spread is over
# SPREAD per cent was disturbed by something else on the machine: both sides of it are measured again, up to TRIES
# times, and the calmest try is printed.
#
# Environment: VARIANTS, FAMILY, BATCH, THREADS, REPEAT, SPREAD, TRIES.
set -u
folder=$1 python=${2:-python3}
here=$(dirname "$0")
variants=${VARIANTS:-vanilla lean regular deep}
family=${FAMILY:-hvae} batch=${BATCH:-8} threads=${THREADS:-$(nproc)} repeat=${REPEAT:-3}
spread_limit=${SPREAD:-15} tries=${TRIES:-3}
results=$folder/results.jsonl
: > "$results"

# Number or word after "key": in a line of JSON.
field() { sed -n 's/.*"'"$2"'": *"\{0,1\}\([^",}]*\).*/\1/p' <<< "$1"; }
calculate() { awk "BEGIN { $1 }"; }

floor=$("$folder/floor" "$threads") || exit 1
echo "$floor" >> "$results"
peak=$(field "$floor" conv_gflops)
echo "machine: $(field "$floor" cpu), $threads threads; multiply-add peak $(field "$floor" fma_gflops) GFLOP/s,"
echo "         convolution peak $peak GFLOP/s (one thread $(field "$floor" conv_gflops_1)), copy $(field "$floor" copy_gb_per_s) GB/s"

if [ ! -x "$folder/bench" ]; then
    echo "skipped: the program test/bench/bench.c is not built"
    exit 0
fi

peer=''
if ! "$python" -c 'import torch' 2> /dev/null; then
    echo "peer: $python has no torch; only our own numbers (PYTHON=... names another one)"
else
    test=$("$python" "$here/peer_torch.py" --variant vanilla --mode predict --batch 1 --repeat 1 --threads "$threads" 2> "$folder/peer.log")
    case $? in
    0) peer=1; echo "peer: PyTorch $(field "$test" torch), BLAS $(field "$test" blas), $(field "$test" cpu); product $(field "$test" gemm_gflops), convolution $(field "$test" conv_gflops) GFLOP/s" ;;
    3) echo "peer: not compared. $(tail -n 1 "$folder/peer.log")" ;;
    *) echo "peer: failed: $(tail -n 1 "$folder/peer.log")" ;;
    esac
fi

# Best of the settings, as "seconds MiB".
peer_best() {   # variant mode
    local best='' least='' line seconds
    for settings in "" "--keep-memory" "--channels-last --keep-memory $([ "$2" = predict ] && echo --inference-mode)"; do
        line=$("$python" "$here/peer_torch.py" --variant "$1" --family "$family" --mode "$2" --batch "$batch" \
            --threads "$threads" --repeat "$repeat" $settings 2>> "$folder/peer.log") || continue
        echo "$line" >> "$results"
        best=$(printf '%s\n' $best "$(field "$line" seconds_per_patch)" | sort -g | head -1)
        least=$(printf '%s\n' $least "$(field "$line" peak_mib)" | sort -g | head -1)
    done
    echo "${best:--} ${least:--}"
}

spread_of() {   # line
    calculate "printf \"%.0f\", 100 * ($(field "$1" max) - $(field "$1" min)) / $(field "$1" seconds_per_patch)"
}

# One row: ours, and beside it the peer. Sets line, spread and best ("seconds MiB", or empty without a peer).
measure() {     # variant, work (mode and options)
    local try now now_best now_spread
    line='' spread='' best=''
    for try in $(seq "$tries"); do
        now=$("$folder/bench" --variant "$1" --family "$family" --mode $2 --batch "$batch" --threads "$threads" --repeat "$repeat") || return 1
        echo "$now" >> "$results"
        now_spread=$(spread_of "$now")
        # The peer has no windows of need: for the inner part it computes the whole patch, measured the row before.
        now_best=''
        if [ -n "$peer" ]; then
            case $2 in *--inner*) now_best=$whole ;; *) now_best=$(peer_best "$1" "$2") ;; esac
        fi
        if [ -z "$line" ] || [ "$now_spread" -lt "$spread" ]; then
            line=$now spread=$now_spread best=$now_best
        fi
        [ "$spread" -gt "$spread_limit" ] || return 0
    done
}

printf '\n%-8s %-16s %12s %10s %8s %8s %10s' variant work 's/patch' 'spread' MiB GMAC 'of peak'
[ -n "$peer" ] && printf ' %12s %10s %8s %8s' 'peer s' 'peer MiB' faster memory
printf '\n'
status=0
for variant in $variants; do
    whole=''
    for work in "train" "predict" "predict --inner 16"; do
        measure "$variant" "$work" || {
            echo "$variant $work: failed"
            status=1
            continue
        }
        whole=$best
        seconds=$(field "$line" seconds_per_patch) macs=$(field "$line" macs) mib=$(field "$line" peak_mib)
        printf '%-8s %-16s %12.5f %9s%% %8.0f %8.2f %9.0f%%' "$variant" "${work/ --/, }" "$seconds" "$spread" "$mib" \
            "$(calculate "print $macs / 1e9")" "$(calculate "print 100 * 2e-9 * $macs / $seconds / $peak")"
        if [ -n "$peer" ]; then
            set -- $best
            if [ "${1:--}" = - ]; then
                printf ' %12s' failed
            else
                printf ' %12.5f %10.0f %7.2fx %7.2fx' "$1" "$2" "$(calculate "print $1 / $seconds")" "$(calculate "print $2 / ($mib > 0 ? $mib : 1)")"
            fi
        fi
        printf '\n'
    done
done
echo
echo "GMAC: multiply-adds done per patch, a training step's backward pass included; spread: (slowest - fastest) / median"
exit $status
