#!/bin/bash
# zarr.sh TEST_ZARR: OME-Zarr exchanged with zarr-python 2, both ways (zarr_peer.py), where that is installed.
set -u
tool=$(realpath "$1")
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
if ! "$python" -c 'import zarr; assert zarr.__version__ < "3"' 2> /dev/null; then
    echo "no zarr of version 2 for $python: OME-Zarr is not compared with zarr-python"
    exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -W ignore -B test/check/zarr_peer.py "$tool" "$work"
