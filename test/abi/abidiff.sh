#!/bin/bash
# abidiff.sh LIBRARY [accept]: compares the library with test/abi/usplit.abi (libabigail). The base line
# was made from a gcc build; `accept` writes it anew. Skipped where abidiff or the file is missing.
set -u
library=$(realpath "$1")
cd "$(dirname "$0")/../.."
flags='--exported-interfaces-only --no-show-locs --no-comp-dir-path --no-corpus-path --drop-private-types --headers-dir include'
if ! command -v abidw > /dev/null || ! command -v abidiff > /dev/null; then
    echo "abidw and abidiff are not installed (package abigail-tools)"
    exit 77
fi
# What the header shows, without anything of this machine.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
abidw $flags --out-file "$work/now.abi" "$library" || exit 1
sed -i "s/ filepath='[^']*'//g; /<elf-needed>/,/<\/elf-needed>/d" "$work/now.abi"
if [ "${2:-}" = accept ]; then
    cp "$work/now.abi" test/abi/usplit.abi
    echo "test/abi/usplit.abi written: $(wc -l < test/abi/usplit.abi) lines"
    exit 0
fi
if [ ! -f test/abi/usplit.abi ]; then
    echo "test/abi/usplit.abi is not there yet (make abi-accept writes it)"
    exit 77
fi
# The two sides are compared as files: with --headers-dir abidiff takes a base line without source
# locations for private, and passes over every change of a struct.
abidiff test/abi/usplit.abi "$work/now.abi"
status=$?
if [ $status = 0 ]; then
    echo "no difference from test/abi/usplit.abi"
    exit 0
fi
if [ $((status & 8)) != 0 ]; then
    echo "an incompatible change: a host built with the last header would break"
else
    echo "a change of the ABI; if meant so: make abi-accept"
fi
exit 1
