#!/bin/bash
# symbols.sh PLUGIN: the CUDA plug-in exports one symbol, us_cuda_open; the CUDA runtime and our kernels that are
# linked into it stay inside. Skipped where the plug-in was not built.
set -u
plugin=$1
if [ ! -e "$plugin" ]; then
    echo "skipped: $plugin is not built (make cuda needs nvcc and cuDNN)"
    exit 77
fi
exported=$(nm -D --defined-only "$plugin" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }')
if [ "$exported" != us_cuda_open ]; then
    echo "$plugin exports more or less than us_cuda_open:"
    echo "$exported" | head -20
    exit 1
fi
# Names of this library come from the table that us_cuda_open is given, not from the loader.
foreign=$(nm -D --undefined-only "$plugin" | awk '{ print $2 }' | grep '^us_\|^usplit_')
if [ -n "$foreign" ]; then
    echo "$plugin expects the loader to find $foreign"
    exit 1
fi
echo "one symbol: $exported"
