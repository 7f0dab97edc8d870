#!/bin/bash
# check.sh FOLDER PROGRAM [FIXTURES]: everything that only a GPU can show, one thing after the other. FOLDER holds
# the test programs (`make gpu-tests`), PROGRAM is usplit, its plug-in in lib/ beside it. Ends with
# "N passed, N failed, N skipped"; with status 77 where there is no GPU. JOBS=N runs N programs at a time.
set -u
folder=$1 program=$2 fixtures=${3:-}
here=$(dirname "$0")
facts=$("$folder/facts")
case $? in
0) echo "GPU: $facts" ;;
77)
    echo "skipped: no GPU to test on: $facts"
    echo "0 passed, 0 failed, 1 skipped"
    exit 77
    ;;
*)
    echo "FAIL $folder/facts does not run: $facts"
    echo "0 passed, 1 failed, 0 skipped"
    exit 1
    ;;
esac
plugin=$(dirname "$program")/../lib/libusplit_cuda.so
# Programs linked with the static library look for the plug-in where the loader does.
LD_LIBRARY_PATH=$(cd "$(dirname "$plugin")" && pwd)${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH
commands=()
for name in map compiled steps spatial images conv half tiling network chains networks training modes; do
    [ -x "$folder/test_$name" ] && commands+=("$folder/test_$name")
done
commands+=("$folder/conv_gpu" "$folder/conv_gpu search" "$folder/test_on_device" "$here/fallback.sh $program $plugin")
for bits in 32 16; do
    commands+=("$here/parity.sh $folder/parity ${fixtures:-no-fixtures} $bits")
done
for name in map compiled steps spatial images conv; do
    commands+=("$here/sanitize.sh memcheck $folder/test_$name" "$here/sanitize.sh racecheck $folder/test_$name")
done
exec "$here/../check/run_tests" -o "${OUT:-$folder/output}" -j "${JOBS:-1}" -t "${SECONDS_EACH:-1800}" "${commands[@]}"
