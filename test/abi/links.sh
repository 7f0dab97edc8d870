#!/bin/bash
# links.sh FOLDER: a generated program takes the address of every function that the header declares,
# links with FOLDER/libusplit.so and runs.
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
"$work/links"
