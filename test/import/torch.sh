#!/bin/bash
# torch.sh PROGRAM FOLDER-OF-THE-LIBRARY [FIXTURES]: usplit import against checkpoints that PyTorch writes, where a
# Python that has it is found: $PYTHON, python3.
here=$(dirname "$0")
for python in ${PYTHON:-} python3; do
    if "$python" -c 'import torch, numpy' 2> /dev/null; then
        exec "$python" -B "$here/test_torch.py" "$@"
    fi
done
echo "no Python with torch and numpy (PYTHON=...): usplit import is tested with the checkpoint in test/data only"
exit 77
