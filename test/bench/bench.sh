#!/bin/bash
# bench.sh FOLDER [PYTHON]: FOLDER holds the programs `bench` and `floor`. For every variant: seconds per
# patch of a training step, of predicting a whole patch, and of predicting its inner 16 of 64; peak memory;
# multiply-adds done; share of the convolution peak that floor measures. Where PYTHON can import torch,
# the same networks in PyTorch run beside them (test/bench/peer_torch.py), in several settings of
# which the fastest counts for time and the smallest for memory. A slow build of PyTorch is named and not
# compared. Every measurement is its own process; all of them stay in FOLDER/results.jsonl. Something else
# on the machine disturbs a row where the spread of either side is over SPREAD per cent: then both are measured again, in
# turns, up to TRIES times, and the fastest try of each counts. REPEAT=1 has no spread.
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

read -r load _ < /proc/loadavg
floor=$("$folder/floor" "$threads") || exit 1
echo "$floor" >> "$results"
peak=$(field "$floor" conv_gflops)
echo "machine: $(field "$floor" cpu), $threads threads; multiply-add peak $(field "$floor" fma_gflops) GFLOP/s,"
echo "         convolution peak $peak GFLOP/s (one thread $(field "$floor" conv_gflops_1)), copy $(field "$floor" copy_gb_per_s) GB/s;"
echo "         load before the run $load"

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

spread_of() {   # line
    calculate "printf \"%.0f\", 100 * ($(field "$1" max) - $(field "$1" min)) / $(field "$1" seconds_per_patch)"
}

# One try of the peer in its settings. Updates fastest ("seconds spread") and least (MiB).
measure_peer() {   # variant mode
    local now
    for settings in "" "--keep-memory" "--channels-last --keep-memory $([ "$2" = predict ] && echo --inference-mode)"; do
        now=$("$python" "$here/peer_torch.py" --variant "$1" --family "$family" --mode "$2" --batch "$batch" \
            --threads "$threads" --repeat "$repeat" $settings 2>> "$folder/peer.log") || continue
        echo "$now" >> "$results"
        fastest=$(printf '%s\n' "$fastest" "$(field "$now" seconds_per_patch) $(spread_of "$now")" | grep . | sort -g | head -1)
        least=$(printf '%s\n' $least "$(field "$now" peak_mib)" | sort -g | head -1)
    done
}

# One row: ours (line) and the peer's (fastest, least), in turns until both are calm.
measure() {     # variant, work (mode and options)
    local now whole=1 peer_spread=''
    line=''
    # The peer has no windows of need: for the inner part it computes the whole patch, measured the row before.
    case $2 in *--inner*) whole='' ;; *) fastest='' least='' ;; esac
    for _ in $(seq "$tries"); do
        now=$("$folder/bench" --variant "$1" --family "$family" --mode $2 --batch "$batch" --threads "$threads" --repeat "$repeat") || return 1
        echo "$now" >> "$results"
        line=$(printf '%s\n' "$line" "$now" | grep . | sort -t: -k2 -g | head -1)      # the first field: seconds
        if [ -n "$peer" ] && [ -n "$whole" ]; then
            measure_peer "$1" "$2"
            peer_spread=${fastest#* }
        fi
        [ "$(spread_of "$line")" -gt "$spread_limit" ] || [ "${peer_spread:-0}" -gt "$spread_limit" ] || break
    done
}

printf '\n%-8s %-16s %12s %10s %8s %8s %10s' variant work 's/patch' 'spread' MiB GMAC 'of peak'
[ -n "$peer" ] && printf ' %12s %10s %10s %8s %8s' 'peer s' 'spread' 'peer MiB' faster memory
printf '\n'
status=0 fastest='' least=''
for variant in $variants; do
    for work in "train" "predict" "predict --inner 16"; do
        measure "$variant" "$work" || {
            echo "$variant $work: failed"
            status=1
            continue
        }
        seconds=$(field "$line" seconds_per_patch) macs=$(field "$line" macs) mib=$(field "$line" peak_mib)
        printf '%-8s %-16s %12.5f %9s%% %8.0f %8.2f %9.0f%%' "$variant" "${work/ --/, }" "$seconds" "$(spread_of "$line")" "$mib" \
            "$(calculate "print $macs / 1e9")" "$(calculate "print 100 * 2e-9 * $macs / $seconds / $peak")"
        if [ -n "$peer" ]; then
            if [ -z "$fastest" ]; then
                printf ' %12s' failed
            else
                printf ' %12.5f %9s%% %10.0f %7.2fx %7.2fx' $fastest "$least" \
                    "$(calculate "print ${fastest% *} / $seconds")" "$(calculate "print $least / ($mib > 0 ? $mib : 1)")"
            fi
        fi
        printf '\n'
    done
done
echo
echo "GMAC: multiply-adds done per patch, a training step's backward pass included; spread: (slowest - fastest) / median"
exit $status
