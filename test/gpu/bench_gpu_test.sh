#!/bin/bash
# bench_gpu_test.sh: the table of bench_gpu.sh, with made-up programs in place of ours and of PyTorch's, against what
# their numbers come to by hand.
set -u
here=$(dirname "$0")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=0

# Ours: 5 ms with timed ways, 6 without; 400 G multiply-adds take 1 ms at 800 TFLOP/s (two operations each), and the
# 2 GB kept, moved three times at 2000 GB/s, 3 ms: 60 % of our 5. A frame takes 0.5 s, and has no bytes to count.
cat > "$work/ours" << 'END'
#!/bin/bash
case "$*" in
*"hae --variant"*) echo "bench_gpu: no memory" >&2; exit 1 ;;
*"--tune 1 --mode train"*) echo '{"work": "train", "seconds": 0.0050000, "device_mib": 1000.0, "macs": 400000000000, "kept_mib": 1907.3486328125, "tune": 1}' ;;
*"--mode train"*) echo '{"work": "train", "seconds": 0.0060000, "device_mib": 900.0, "macs": 400000000000, "kept_mib": 1907.3486328125, "tune": 0}' ;;
*"--tune 1 --mode split"*) echo '{"work": "split", "seconds": 0.6000000, "device_mib": 200.0, "macs": 40000000000000, "tune": 1}' ;;
*) echo '{"work": "split", "seconds": 0.5000000, "device_mib": 200.0, "macs": 40000000000000, "tune": 0}' ;;
esac
END
# PyTorch: eager 30 ms, 25 with channels last; compiled 15 at best mode but max-autotune's 7, and reduce-overhead fails.
cat > "$work/python" << 'END'
#!/bin/bash
case "$*" in
"-c import torch") exit 0 ;;
*--lines*) while IFS= read -r line; do "$0" $line || echo '{}'; done ;;
*--floor*) echo '{"gflops": 800000.0, "copy_gb_per_s": 2000.0, "name": "A device", "torch": "2.15.0"}' ;;
*"--mode split"*) echo '{"work": "split", "seconds": 3.0, "device_mib": 2000.0}' ;;
*reduce-overhead*) echo "out of graphs" >&2; exit 1 ;;
*max-autotune*) echo '{"work": "train", "seconds": 7e-03, "device_mib": 3100.0}' ;;
*"--compile-mode default"*) echo '{"work": "train", "seconds": 0.015, "device_mib": 2900.0}' ;;
*--channels-last*) echo '{"work": "train", "seconds": 0.025, "device_mib": 5000.0}' ;;
*) echo '{"work": "train", "seconds": 0.030, "device_mib": 5000.0}' ;;
esac
END
printf '#!/bin/bash\necho "A device"\n' > "$work/facts"
printf '#!/bin/bash\necho "no device here"\nexit 77\n' > "$work/no-facts"
chmod +x "$work"/*

run() {         # EXPECTED-STATUS ROWS FACTS PYTHON
    ROWS=$2 "$here/bench_gpu.sh" "$work/ours" "$work/$3" "$4" > "$work/out" 2>&1
    local is=$?
    [ $is = "$1" ] || {
        echo "status $is, expected $1"
        bad=1
    }
    sed -i 's/  */ /g' "$work/out"
}

expect() {
    grep -Fxq -- "$1" "$work/out" || {
        echo "missing: $1"
        sed 's/^/    /' "$work/out"
        bad=1
    }
}

run 0 hvae/regular facts "$work/python"
expect 'GPU: A device'
expect 'peer: PyTorch 2.15.0 on A device; half product 800000.0 GFLOP/s, copy 2000.0 GB/s'
expect 'hvae/regular train 0.00500 timed 1000 60% 0.02500 0.00700 2900.0 5.00x 1.40x 2.90x'
expect 'hvae/regular split 0.50000 first 200 20% 3.00000 3.00000 2000.0 6.00x 6.00x 10.00x'
expect '2 passed, 0 failed, 0 skipped'
run 0 hvae/lean facts /nowhere/python
expect 'hvae/lean train 0.00500 timed 1000 - - - - - - -'
run 1 'hvae/lean hae/regular' facts /nowhere/python
expect 'hae/regular train: failed: bench_gpu: no memory'
expect '2 passed, 2 failed, 0 skipped'
run 0 hvae/lean no-facts /nowhere/python
expect 'skipped: no GPU to measure on: no device here'
expect '0 passed, 0 failed, 1 skipped'
[ $bad = 0 ] && echo "the table of bench-gpu is what its numbers come to"
exit $bad
