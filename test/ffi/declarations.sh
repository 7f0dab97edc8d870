#!/bin/bash
# declarations.sh: what Python and Julia declare is what the header says (test_declarations.py).
cd "$(dirname "$0")/../.." || exit 1
python=${PYTHON:-python3}
if ! command -v "$python" > /dev/null; then
    echo "$python is not installed: declarations are not compared"
    exit 77
fi
exec "$python" -B test/ffi/test_declarations.py
