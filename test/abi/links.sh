#!/bin/bash
# links.sh FOLDER: a generated program takes the address of every function that the header declares,
# links with FOLDER/libusplit.so and runs. libusplit.so needs no library of a GPU: the backend that does is
# opened on demand.
set -u
folder=$(realpath "$1")
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cc=${CC:-gcc}
awk -v mode=addresses -f test/abi/header_table.awk include/usplit.h > "$work/links.c" || exit 1
"$cc" -std=c99 -Wall -Wextra -Werror -Iinclude -o "$work/links" "$work/links.c" -L"$folder" -lusplit \
    -Wl,-rpath,"$folder" 2> "$work/log" || {
    grep 'undefined\|error' "$work/log" | sed 's/.*undefined/undefined/' | sort -u
    exit 1
}
needed=$(objdump -p "$folder/libusplit.so" | awk '$1 == "NEEDED" { print $2 }')
case $needed in *libc.so*) ;; *) echo "what libusplit.so needs cannot be told: '$needed'"; exit 1 ;; esac
if echo "$needed" | grep -i 'cuda\|cudnn\|cublas\|nv'; then
    echo "libusplit.so needs the above: no library of a GPU is accepted there"
    exit 1
fi
"$work/links"
