#!/bin/bash
# layout.sh [accept]: constants, struct layouts, callback types and prototypes of the header, printed by a
# generated program, equal test/abi/layout.txt. `accept` writes that file anew.
set -u
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cc=${CC:-gcc}
awk -v mode=layout -f test/abi/header_table.awk include/usplit.h > "$work/layout.c" || exit 1
"$cc" -std=c99 -Wall -Wextra -Werror -Iinclude -o "$work/layout" "$work/layout.c" || exit 1
"$work/layout" > "$work/layout.txt" || exit 1
if [ "${1:-}" = accept ]; then
    cp "$work/layout.txt" test/abi/layout.txt
    echo "test/abi/layout.txt written: $(grep -c . test/abi/layout.txt) lines"
    exit 0
fi
if [ "$(getconf LONG_BIT)" != 64 ]; then
    echo "the table is that of 64-bit machines"
    exit 77
fi
if ! diff -u test/abi/layout.txt "$work/layout.txt"; then
    echo "the header's layout is not that of test/abi/layout.txt; if meant so: make abi-accept"
    exit 1
fi
echo "$(grep -c . test/abi/layout.txt) lines of constants, layouts and prototypes as committed"
