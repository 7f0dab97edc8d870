#!/bin/bash
# sanitize.sh TOOL PROGRAM: a test program under compute-sanitizer, with memcheck, racecheck, ... Skipped where
# compute-sanitizer is neither on PATH nor in the CUDA toolkit.
set -u
tool=$1 program=$2
sanitizer=$(command -v compute-sanitizer)
for folder in "${CUDA_HOME:-/usr/local/cuda}" /opt/cuda; do
    for inside in bin compute-sanitizer; do
        [ -z "$sanitizer" ] && [ -x "$folder/$inside/compute-sanitizer" ] && sanitizer=$folder/$inside/compute-sanitizer
    done
done
if [ -z "$sanitizer" ]; then
    echo "skipped: no compute-sanitizer on PATH or in the CUDA toolkit (CUDA_HOME)"
    exit 77
fi
# Tests provoke errors of calls and look at them themselves.
more=''
[ "$tool" = memcheck ] && more='--leak-check full --report-api-errors no'
exec "$sanitizer" --tool "$tool" $more --error-exitcode 9 "$program"
