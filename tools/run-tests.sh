#!/bin/bash
# run-tests.sh [TEST...]: tests this bundle on this machine: the CPU's tests (or those named), and where there is a
# GPU and the plug-in is in the bundle, everything that make check-gpu runs. Needs bash, awk and coreutils. The last
# line sums up: "N passed, N failed, N skipped".
set -u
cd "$(dirname "$0")" || exit 2
here=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0
programs=()
if [ $# -gt 0 ]; then
    for name in "$@"; do
        programs+=("$here/tests/cpu/$name")
    done
else
    programs=("$here"/tests/cpu/test_*)
    [ -d tests/fixtures ] && programs+=("$here/tests/cpu/parity $here/tests/fixtures")
fi
tests/scripts/check/run_tests -o "$work/cpu" -t 1200 "${programs[@]}" | tee "$work/cpu.log"
[ "${PIPESTATUS[0]}" = 0 ] || status=1
if [ -d tests/gpu ]; then
    OUT=$work/gpu tests/scripts/gpu/check.sh "$here/tests/gpu" "$here/bin/usplit" "$here/tests/fixtures" | tee "$work/gpu.log"
    case ${PIPESTATUS[0]} in 0 | 77) ;; *) status=1 ;; esac
else
    echo "skipped: the CUDA plug-in is not in this bundle"
    echo "0 passed, 0 failed, 1 skipped" > "$work/gpu.log"
fi
awk '/^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/ { passed += $1; failed += $3; skipped += $5 }
     END { printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped }' "$work"/*.log
exit $status
