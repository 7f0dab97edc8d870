#!/bin/bash
# julia_pattern.sh FOLDER: compiles julia_pattern.c with the declarations of bindings/julia/src/abi.jl, whose sizes,
# offsets and constants the compiler compares with usplit.h, and runs it against FOLDER/libusplit.so.
set -u
folder=$(realpath "$1")
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
if ! command -v "$python" > /dev/null; then
    echo "$python is not installed: the declarations cannot be turned into C"
    exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -B test/ffi/julia_abi.py "$work/julia_abi.h" || exit 1
"${CC:-gcc}" -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -O1 -g -pthread ${FFI_CFLAGS:-} -Iinclude -I"$work" \
    -o "$work/julia_pattern" test/ffi/julia_pattern.c -ldl -lm || exit 1
"$work/julia_pattern" "$folder/libusplit.so" "$work"
