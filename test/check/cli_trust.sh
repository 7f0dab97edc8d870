#!/bin/bash
# cli_trust.sh PROGRAM: what the usplit program says about trust, end to end on tiny data: check, calibrate, calibrated
# deviations, the residual, the warning about an image unlike the training's; and what must be refused.
set -u
. "$(dirname "$0")/cli_common.bash" || exit 1
seconds=120

# grey FILE: a TIFF of 64 x 64 pixels of one byte, all 200.
grey() {
    {
        printf 'II*\0\010\0\0\0\010\0'
        printf '\0\001\003\0\001\0\0\0\100\0\0\0'       # width 64
        printf '\001\001\003\0\001\0\0\0\100\0\0\0'     # height 64
        printf '\002\001\003\0\001\0\0\0\010\0\0\0'     # 8 bits
        printf '\003\001\003\0\001\0\0\0\001\0\0\0'     # not compressed
        printf '\006\001\003\0\001\0\0\0\001\0\0\0'     # black is 0
        printf '\021\001\004\0\001\0\0\0\156\0\0\0'     # pixels at byte 110
        printf '\026\001\003\0\001\0\0\0\100\0\0\0'     # 64 rows in the strip
        printf '\027\001\004\0\001\0\0\0\0\020\0\0'     # 4096 bytes
        printf '\0\0\0\0'
        head -c 4096 /dev/zero | tr '\0' '\310'
    } > "$1"
}

for command in check calibrate; do
    expect 0 help $command
    says out 'Example:'
done

here="--threads 2 --device cpu"
expect 0 synth -o data --frames 16 --size 64 --kinds 1 --curves 3
expect 0 train --channel data/ch1.tif --channel data/ch2.tif -o m.h5 --family hvae --filters 8 --z 8 --levels 2 \
    --patch 32 --batch 4 --steps 120 --lr 0.003 --val-patches 2 -q $here

# ---- check
expect 0 check m.h5 $here
says out '^compared  4096 output values'
says out '^verdict   ok'
expect 0 check m.h5 --json $here
says out '"ok": *true'
expect 2 check
expect 2 check m.h5 m.h5
expect 1 check nothing.h5

# ---- calibrate
channels="--channel data/ch1.tif --channel data/ch2.tif"
expect 2 calibrate m.h5 $channels
says err 'where to'
expect 2 calibrate m.h5 --channel data/ch1.tif --overwrite
expect 2 calibrate $channels --overwrite
expect 2 calibrate m.h5 $channels --test -o x.h5
expect 1 calibrate m.h5 $channels --test $here
says err 'no calibration'
expect 1 split m.h5 data/ch1.tif -o s.tif --samples 3 --deviations --calibrated $here
says err 'no calibration'
expect 0 calibrate m.h5 $channels -o c.h5 --samples 4 -q $here
says out '^channel 1 .*x deviation'
says out '^residual'
expect 1 calibrate m.h5 $channels -o c.h5 --samples 4 $here
says err 'exists'
before=$(stat -c %s m.h5)
expect 0 calibrate m.h5 $channels --overwrite --samples 4 -q --json $here
says out '"slope": *[0-9]'
cmp -s m.h5 c.h5 || fail "the model written over is not the one written beside it"
[ "$(stat -c %s m.h5)" != "$before" ] || fail "the model was not written"
[ -z "$(find . -name '.usplit-*')" ] || fail "a temporary file is left"
expect 0 calibrate m.h5 $channels --test --samples 4 -q $here
says out 'good: slope 1'
expect 0 info m.h5 $here
says out '^deviation calibrated with 4 samples'
says out '^frames '
expect 0 info m.h5 --json $here
says out '"calibration"'
expect 0 check m.h5 $here

# ---- split
expect 2 split m.h5 data/ch1.tif -o s.tif --calibrated $here
expect 0 split m.h5 data/ch1.tif -o s.tif --samples 4 --std --calibrated --residual r.tif --json --frames 0:2 $here
there s.tif 131072
there r.tif 32768
says err '^residual .*usual'
says out '"residuals"'
says out '"calibrated": *true'
says out '"structure": *[0-9]'
silent err 'the calibration is for'
expect 1 split m.h5 data/ch1.tif -o s2.tif --residual r.tif $here
says err 'r.tif exists'
expect 2 split m.h5 data/ch1.tif data/ch2.tif -o many --residual r2.tif $here
expect 2 split m.h5 data/ch1.tif -o s4.tif --residual s4.tif $here
expect 0 split m.h5 data/ch1.tif -o s3.tif --samples 2 --deviations --calibrated --frames 0:1 -q $here
says err 'the calibration is for --samples 4'

# ---- An image unlike the training's: a warning, no failure
grey grey.tif
expect 0 split m.h5 grey.tif -o g.tif --residual gr.tif --json $here
says err '^warning: grey.tif: 1 of 1 pages not like the training images'
says err '^residual  no score'
says out '"unusual": *true'

echo "cli_trust: $checks checks"
exit $bad
