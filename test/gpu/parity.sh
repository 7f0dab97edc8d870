#!/bin/bash
# parity.sh PROGRAM FIXTURES PRECISION: the published networks' numbers on the first GPU, in 32 or 16 bits.
set -u
if [ ! -d "$2" ]; then
    echo "skipped: no folder $2 with the published networks' numbers; say FIXTURES=DIR"
    exit 77
fi
exec "$1" --device cuda:0 --precision "$3" "$2"
