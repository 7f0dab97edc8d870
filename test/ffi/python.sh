#!/bin/bash
# python.sh FOLDER: the tests of bindings/python with FOLDER/libusplit.so.
folder=$(realpath "$1")
cd "$(dirname "$0")/../.." || exit 1
python=${PYTHON:-python3}
if ! command -v "$python" > /dev/null; then
    echo "$python is not installed: the Python package is not tested"
    exit 77
fi
exec "$python" -B bindings/python/tests/run.py "$folder"
