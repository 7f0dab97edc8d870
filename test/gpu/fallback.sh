#!/bin/bash
# fallback.sh PROGRAM PLUGIN [LIBRARY-FOLDERS]: asked for a CUDA device that is not there, `usplit` fails with the
# loader's or driver's own words; with --device auto it says them and runs on the CPU. Devices are hidden, so
# this holds on every machine; with and without the plug-in, whose absence is another reason.
set -u
program=$(realpath "$1")
plugin=$2
export LD_LIBRARY_PATH=${3:-}${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} CUDA_VISIBLE_DEVICES=
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
bad=0

fail() {
    echo "$1"
    sed 's/^/    /' "$folder/err" | tail -5
    bad=1
}

split() {       # STATUS DEVICE
    rm -f "$folder/out.tif"
    timeout -k 5 60 "$program" split "$folder/m.h5" "$folder/c/ch1.tif" -o "$folder/out.tif" --device "$2" \
        > "$folder/out" 2> "$folder/err" < /dev/null
    local is=$?
    [ $is = "$1" ] || fail "--device $2: status $is, expected $1"
}

"$program" synth -o "$folder/c" --frames 10 --size 64 --curves 2 > "$folder/err" 2>&1 &&
    "$program" train --channel "$folder/c/ch1.tif" --channel "$folder/c/ch2.tif" -o "$folder/m.h5" --family hae --filters 8 \
        --z 8 --levels 2 --patch 32 --batch 4 --steps-per-epoch 1 --epochs 1 --threads 2 --device cpu -q 2> "$folder/err" || {
    fail "no model to try it with"
    exit 1
}

# Whose words: the driver's (it is missing or too old), ours of a driver without devices, the loader's.
if [ -e "$plugin" ]; then
    words='cuda[A-Z][A-Za-z]*: cudaError[A-Z][A-Za-z]* (.*)\|no CUDA device'
else
    words='no CUDA backend: .*libusplit_cuda.so.*'
fi
for device in cuda cuda:0 cuda:1; do
    split 1 $device
    grep -q "^usplit: split: device '$device' is not there: \($words\)" "$folder/err" ||
        fail "--device $device: the reason is missing"
    [ ! -e "$folder/out.tif" ] || fail "--device $device: wrote something"
done
reason=$(sed "s/.*is not there: //" "$folder/err")
split 0 auto
grep -q "^device *cpu, .*(auto: \($words\))" "$folder/err" "$folder/out" || fail "--device auto: the reason is missing"
[ -s "$folder/out.tif" ] || fail "--device auto: wrote nothing"
split 0 cpu
grep -q "cuda\|CUDA" "$folder/err" "$folder/out" && fail "--device cpu: speaks of CUDA"
split 1 cuda:x
grep -q "accepted: auto, cpu, cuda, cuda:N" "$folder/err" || fail "--device cuda:x: the accepted names are missing"
[ -e "$plugin" ] || echo "without the plug-in, which is not built:"
[ $bad = 0 ] && echo "device names fail with the reason, auto takes the CPU: $reason"
exit $bad
