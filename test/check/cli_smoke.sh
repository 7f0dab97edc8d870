#!/bin/bash
# cli_smoke.sh PROGRAM: the usplit program end to end on tiny data. Synthetic images, training, its
# interruption and resumption, splitting, evaluation, the demo; and what must be refused, with which status.
set -u
. "$(dirname "$0")/cli_common.bash" || exit 1

tiny="--family hae --filters 8 --z 8 --levels 2 --patch 32 --batch 4 --steps-per-epoch 4 --threads 2 --device cpu"

# ---- Help and wrong usage
expect 0 --version
says out '^usplit [0-9]'
expect 0 help
for command in demo train split eval tiling-study info doctor synth dip import; do
    expect 0 help $command
    says out 'Example:'
    expect 2 $command --no-such-option
done
expect 2 nonsense
expect 2 train --channel a.tif -o m.h5
expect 2 train --channel a.tif --channel b.tif
expect 2 train --channel a.tif --channel b.tif -o m.h5 --batch many
expect 2 train --channel a.tif --channel b.tif -o m.h5 --family gan
expect 2 split m.h5 a.tif
expect 1 train --channel a.tif --channel b.tif -o m.h5
says err 'no such file'
expect 1 info nothing.h5
expect 2 synth
says err 'where to'
expect 2 synth -o folder extra
says err "'extra'"
expect 2 demo extra

# ---- Precision
expect 0 help train
says out '--precision auto|32|16'
says out '--deterministic'
expect 0 info --levels 2 --device cpu --precision 32 --deterministic
expect 1 info --levels 2 --device cpu --precision 16
says err 'float16.*CPU'
expect 2 info --levels 2 --precision 64

# ---- The machine
expect 0 doctor --threads 2
says out '^threads   2$'
says out '^devices   cpu, oneDNN'
says out '^ *cuda'
says out '/libusplit.so'
says out '/libdnnl.so'
says out '^ *cpu float32, ok: largest relative difference'
expect 0 doctor --json
says out '"name": "cpu"'
says out '"ok": true'
python3 -c 'import json' 2> /dev/null && {
    checks=$((checks + 1))
    python3 -c 'import json; json.load(open("out"))' 2> err || fail "doctor --json is no JSON"
}
expect 1 doctor nothing.h5
expect 2 doctor one.h5 two.h5
# Without the CUDA plug-in beside the library, the loader's own words.
mkdir -p alone/bin alone/lib
cp "$program" alone/bin/
library=$(ldd "$program" | sed -n 's/.*=> \(.*libusplit\.so[^ ]*\) .*/\1/p')
cp "$library" alone/lib/
beside_plugin=$program program=$folder/alone/bin/usplit
expect 0 doctor
says out "$folder/alone/lib/libusplit.so"
if ! grep -q '/libusplit_cuda.so$' out; then     # the system has none either
    says out '^ *cuda, not usable: no CUDA backend: .*libusplit_cuda.so'
    expect 1 info --levels 2 --device cuda
    says err 'libusplit_cuda.so'
    expect 1 info --levels 2 --precision 16
    says err 'float16'
fi
program=$beside_plugin
expect 1 split nothing.h5 a.tif -o b.tif

# ---- Synthetic images
expect 0 synth -o data --frames 12 --size 128 --seed 3
there data/ch1.tif 786432
there data/ch2.tif 786432
expect 1 synth -o data --frames 12
says err 'overwrite'
# The mixture is the mean of the channels: so say all 32-bit words that differ, but for the few of the files' texts.
expect 0 synth -o three --frames 2 --size 96 --mixed
expect 1 synth -o three --mixed
for part in ch1 ch2 mixed; do od -An -v -tf4 -w4 three/$part.tif > three/$part; done
checks=$((checks + 1))
paste three/ch1 three/ch2 three/mixed | awk '
    $1 != $2 { n++; off = $3 - ($1 + $2) / 2; far += off > 1e-4 || off < -1e-4 }
    END { exit !(n > 10000 && far < 50) }' || fail 'mixed.tif is not the mean of the channels'
pair='--channel data/ch1.tif --channel data/ch2.tif'

# ---- Training
expect 0 train $pair $tiny --epochs 2 --names 'slow waves,fast' --history h.csv -o m.h5 --json
there m.h5 1000
there m.last.h5 1000
there m.svg 500
there m.html 10000
says m.html '2 of at most 2'
says m.html 'slow waves, true'
says out '"steps": 8'
says err 'parameters'
[ "$(wc -l < h.csv)" = 3 ] || fail "h.csv has $(wc -l < h.csv) lines, expected 3"
expect 1 train $pair $tiny -o m.h5
says err 'overwrite'
expect 2 train $pair $tiny --resume --levels 3 -o m.h5
expect 0 train $pair $tiny --resume --epochs 3 --history h.csv -o m.h5 --json
says out '"steps": 12'
[ "$(wc -l < h.csv)" = 4 ] || fail "h.csv has $(wc -l < h.csv) lines after resuming, expected 4"
says m.html '3 of at most 3'
says m.html "data-preview='1 0 0'"
says m.html "data-preview='3 0 0'"
expect 0 train --channel data/ch1.tif --channel data/ch2.tif --val-channel data/ch1.tif --val-channel data/ch2.tif \
    $tiny --steps 2 -o v.h5 --quiet --no-report
there v.h5 1000
absent v.html
mkdir w.html                            # no report can be written there: the training ends well
expect 0 train $pair $tiny --steps 8 -o w.h5 --overwrite
there w.h5 1000
[ "$(grep -c 'no report: w.html' err)" = 1 ] || fail "a report that cannot be written is not told once"
# Channels that are alike are told, in the log and in the report.
expect 0 train --channel data/ch1.tif --channel data/ch1.tif $tiny --steps 4 -o alike.h5
says err '^warning .* are alike: correlation 1.00'
says alike.html "class='warning'>channel 1 and channel 2 are alike"
expect 1 train --channel data/ch1.tif --channel m.h5 $tiny -o x.h5
absent x.h5

# ---- Other data than channels recorded together
expect 0 synth -o one --frames 1 --size 256
mixing='--unpaired --augment --centring exact --input sum --weights 0.5:1,0.8:1.2'
expect 0 train --channel data/ch1.tif --channel one/ch2.tif $tiny $mixing --epochs 1 -o u.h5
says err 'sum of the channels, unpaired; exactly centred'
says err 'lower fifth'
expect 0 train --channel data/ch1.tif --channel one/ch2.tif $tiny $mixing --epochs 2 -o u.h5 --resume
expect 1 train --channel data/ch1.tif --channel one/ch2.tif $tiny --unpaired --epochs 3 -o u.h5 --resume
says err 'resume with the same options'
expect 0 info u.h5 --json
says out '"centring": "exact"'
says out '"weight": 1,*$'
expect 0 split u.h5 data/ch1.tif -o u.tif --threads 2
expect 0 train $pair --mixture data/ch2.tif $tiny --epochs 1 -o mixture.h5
expect 0 info mixture.h5
says out 'of measured images'
expect 0 eval mixture.h5 $pair --mixture data/ch2.tif
expect 2 eval mixture.h5 $pair
says err 'mixture'
expect 2 train $pair --input measured -o x.h5
expect 2 train $pair --mixture data/ch2.tif --input sum -o x.h5
expect 2 train $pair --mixture data/ch2.tif --weights 1:2 -o x.h5
expect 2 train $pair --unpaired --uncorrelated 0.5 -o x.h5
expect 2 train $pair --weights 2:1 -o x.h5
expect 2 train $pair --fixed-targets -o x.h5
expect 2 train $pair --val-mixture data/ch2.tif -o x.h5
expect 0 train $pair $tiny --uncorrelated 0.5 --weights 0.5:1.5 --fixed-targets --steps 2 -o apart.h5 --quiet

# ---- Ctrl-C: a whole checkpoint, status 130, and it goes on
"$program" train $pair $tiny --epochs 100000 --patience 100000 -o c.h5 > out 2> err < /dev/null &
pid=$!
for _ in $(seq 100); do
    [ -f c.last.h5 ] && break
    sleep 0.1
done
kill -INT $pid
wait $pid
status=$?
checks=$((checks + 1))
[ $status = 130 ] || fail "interrupted training: status $status, expected 130"
expect 0 info c.last.h5
says out 'trained'
steps=$(sed -n 's/^trained .* \([0-9]*\) steps.*/\1/p' out)
expect 0 train $pair $tiny --resume --steps $((steps + 3)) --patience 100000 -o c.h5 --json
says out "\"steps\": $((steps + 3))"

# ---- What the model is
expect 0 info m.h5 --check --plan predict
says out 'slow waves'
says out 'check     ok'
expect 0 doctor m.h5
says out '^tested    m.h5$'
says out '^ *cpu float32, ok'
expect 0 info m.h5 --json
says out '"lc_count": 2'
expect 0 info --variant regular --levels 3 --filters 16 --plan train

# ---- The choices of the network: their names, in options, facts and resume checks
expect 0 info --family hae --levels 5 --filters 8 --blocks 2 --activation leaky-relu --logvar none --merge linear \
    --latent-scale paper --json
says out '"blocks": 2'
says out '"activation": "leaky-relu"'
says out '"merge": "linear"'
says out '"latent_scale": "paper"'
expect 0 info --levels 2 --filters 8 --kl analytical --merge ungated --ungated
says out '^options   merge ungated, kl analytical, ungated blocks$'
expect 0 info --family unet --variant context-aware --filters 4
says out '^model     Context-Aware U-Net, 5 levels'
expect 0 info --family bravenet --filters 4
says out '^model     BraveNet, 4 levels, 1 context input,'
expect 1 info --family hae --kl analytical
expect 1 info --family unet --variant lean
says err 'U-Net accepts'
expect 2 info --merge residual_ungated
says err 'residual|ungated|linear'
expect 2 info --variant regular --lc 0
expect 2 train $pair $tiny --resume --merge linear -o m.h5
says err '--merge linear was asked for, but the file to go on from has residual'
expect 2 train $pair $tiny --resume --family hvae -o m.h5
expect 2 train $pair --resume --z 8,4 -o m.h5
expect 2 train $pair --resume --dropout 0.2 -o m.h5

# ---- Splitting
expect 0 split m.h5 data/ch1.tif -o s.tif --preview s.png --threads 2 --json
there s.tif 1572864
there s.png 1000
says out '"pages": 12'
expect 1 split m.h5 data/ch1.tif -o s.tif
expect 0 split m.h5 data/ch1.tif -o s.tif --overwrite --type u16 --frames 2:5 --sum --pad 8
there s.tif 196608
expect 0 split m.h5 s.tif@2 -o again.tif
expect 1 split m.h5 s.tif -o refused.tif
says err 'choose one'
expect 0 split m.h5 data/ch1.tif -o s.ome.tif --axes ZYX --frames 0:2
grep -q 'SizeC="2" SizeZ="1" SizeT="2"' s.ome.tif || fail 's.ome.tif is no OME-TIFF'
expect 0 split m.h5 s.ome.tif@2 data/ch1.tif -o formats --format ome.tif --frames 0:1
there formats/ch1_split.ome.tif 131072
expect 2 split m.h5 data/ch1.tif -o no.tif --axes XY
says err 'axes XY'
expect 2 split m.h5 data/ch1.tif -o no.h5
says err 'not written'
absent no.h5
expect 1 split m.h5 m.h5 -o no.tif
says err 'datasets'
expect 0 split m.h5 data -o folder --frames 0:1
there folder/ch1_split.tif 131072
there folder/ch2_split.tif 131072
expect 2 split m.h5 data -o one.tif
# OME-Zarr: what was written is read again, by split and by training
expect 0 split m.h5 data/ch1.tif -o s.ome.zarr --frames 0:2
there s.ome.zarr/0/1/0/0/0/0 100
expect 1 split m.h5 data/ch1.tif -o s.ome.zarr
says err 's.ome.zarr exists; --overwrite replaces it'
expect 0 split m.h5 data/ch1.tif -o s.ome.zarr/ --frames 0:3 --overwrite
expect 1 split m.h5 s.ome.zarr -o no.tif
says err '2 channels; choose one: s.ome.zarr@1 to @2'
expect 0 split m.h5 s.ome.zarr@2 -o again.ome.zarr
expect 0 split m.h5 again.ome.zarr/@1 again.ome.zarr:/0@2 -o zarrs --format ome.zarr --quiet
there zarrs/again_ch1_split.ome.zarr/.zattrs 500
expect 0 train --channel s.ome.zarr@1 --channel s.ome.zarr@2 -o z.h5 $tiny --epochs 1 --quiet
expect 0 eval z.h5 --channel s.ome.zarr@1 --channel s.ome.zarr@2 --threads 2
head -c 300000 data/ch1.tif > cut.tif
expect 1 split m.h5 cut.tif -o cut_split.tif
absent cut_split.tif
head -c 2000 m.h5 > cut.h5
expect 1 split cut.h5 data/ch1.tif -o no.tif
absent no.tif

# ---- Evaluation
expect 0 eval m.h5 $pair --picture e.png -o split --threads 2
says out 'RI-PSNR'
says out '^slow waves '
there e.png 10000
there split/ch1_0011.tif 131072
expect 0 eval m.h5 $pair --json --quiet --report e.html
says out '"ri_psnr"'
there e.html 100000
says e.html 'ch1 p12'
expect 1 eval m.h5 $pair --report e.html
says err 'overwrite'
python3 -c 'import xml.etree.ElementTree' 2> /dev/null && for page in m.html alike.html e.html; do
    checks=$((checks + 1))
    python3 -c 'import sys, xml.etree.ElementTree as e; e.parse(sys.argv[1])' $page 2> err || fail "$page is not well-formed"
done
expect 2 eval m.h5 --channel data/ch1.tif

# ---- A checkpoint that PyTorch wrote
published="$tree/test/data/import_tiny.ckpt"
expect 0 import "$published" -o imported.h5 --names 'slow waves,fast'
says err 'HVAE Lean-LC, 1 levels, 1 context input, 2 filters, z 2, patch 16, 2 channels'
says err 'imported  109 arrays, .* saved after 42 epochs'
says err 'assumed   --family hvae'
expect 0 info imported.h5 --check
says out 'slow waves: mean 10, deviation 3'
expect 0 split imported.h5 data/ch1.tif -o imported.tif --frames 0:1 --threads 2
there imported.tif 131072
expect 1 import "$published" -o imported.h5
says err 'overwrite'
expect 0 import "$published" -o imported.h5 --overwrite --quiet $pair
expect 1 import data/ch1.tif -o refused.h5
says err 'not a PyTorch checkpoint'
expect 1 import "$published" -o refused.h5 --filters 4
says err "parameter 'first_bottom_up.0.weight' is 2 x 1 x 3 x 3; expected: 4 x 1 x 3 x 3"
absent refused.h5
expect 2 import "$published"
expect 2 import "$published" -o refused.h5 --mean 3
expect 2 import "$published" -o refused.h5 $pair --target-mean 1,2 --target-std 1,2

# ---- Double-DIP
expect 0 synth -o two --frames 2 --size 96
known='--channel two/ch1.tif --channel two/ch2.tif'
expect 0 dip $known --crop 65 --crops 2 --iterations 3 --threads 2
says out 'mean of 4 crops'
says out '^ch1 p2 '
absent ch1_dip.tif
expect 0 dip $known --crop 65 --crops 2 --iterations 3 --threads 1 -o 1.tif --json
there 1.tif 135200
says out '"mixtures": 2'
expect 0 dip $known --crop 65 --crops 2 --iterations 3 --threads 3 -o 3.tif --json --quiet
cmp -s 1.tif 3.tif || fail 'dip: other pixels with other threads'
expect 0 dip two/ch1.tif --iterations 2
there ch1_dip.tif 147456
expect 1 dip two/ch1.tif --iterations 2
says err 'overwrite'
expect 0 dip two/ch1.tif two/ch2.tif --iterations 2 -o mixed.tif --crop 70
there mixed.tif 78400
expect 2 dip
expect 2 dip two/ch1.tif --mode two
says err 'takes 2 mixtures, 1 given'
expect 2 dip two/ch1.tif $known
expect 2 dip two/ch1.tif --mix 0.5,0.3
expect 2 dip two/ch1.tif --crops 3
expect 2 dip $known --mix half
expect 2 dip $known --crop 64
expect 1 dip $known --crop 65 --iterations 1 --mix 0.5,0.5
says err 'for both mixtures'
expect 1 dip $known --crop 97
says err 'smaller than a crop'
"$program" dip $known --crop 65 --crops 1 --iterations 100000000 --threads 2 -o stopped.tif > out 2> err < /dev/null &
pid=$!
sleep 2
kill -INT $pid
wait $pid
status=$?
checks=$((checks + 1))
[ $status = 130 ] || fail "interrupted dip: status $status, expected 130"
there stopped.tif 67600
says out 'mean of 2 crops'

# ---- Tiling: patches, shifts, deviations, scores without the last rows
expect 0 split m.h5 data/ch1.tif -o shifted.tif --frames 0:1 --shifts 3 --deviations --patch 48 --pad 8 --json
says out '"shifts": 3'
says out '"patch": 48'
there shifted.tif 262144                # two planes of 128 x 128 and their deviations
expect 0 split m.h5 data/ch1.tif -o shown.tif --frames 0:1 --shifts 2 --deviations --preview shown.png
there shown.png 20000
expect 1 split m.h5 data/ch1.tif -o no.tif --deviations
says err 'deviations is 1'
expect 1 split m.h5 data/ch1.tif -o no.tif --patch 34
says err '34; this network accepts multiples of 4'
expect 1 split m.h5 data/ch1.tif -o no.tif --shifts 17
says err 'shifts is 17; accepted with tiles of 16: 0 to 16'
absent no.tif
expect 0 eval m.h5 $pair --drop-last 16 --shifts 2
says out 'seam: steps across borders'
says out '^The last 16 rows and columns'
expect 0 eval m.h5 $pair --pad 0 --patch 128 --json --quiet   # whole frames have no seams
says out '"seam": null'
expect 2 eval m.h5 $pair --drop-last 128
says err 'leaves nothing of frame 1'
expect 0 tiling-study m.h5 $pair --inner 4,16 --outer 5,8 --shifts 2 -o study
says out '^| inner | 0 | 32 | 32 |'
says out '^| inner, shifted | 4 | 32 | 24 |'
says out '^| outer | 8 | 48 | 32 |'
says out '^Left out: inner, pad 16: pad is 16'
says out '^Left out: outer, pad 5: patch size is 42; '
there study/tiling.svg 3000
[ "$(grep -c . study/tiling.csv)" = 8 ] || fail "study/tiling.csv has $(grep -c . study/tiling.csv) lines, expected 8"
[ "$(grep -c . study/tiling.md)" = "$(grep -c . out)" ] || fail "study/tiling.md is not what was printed"
expect 1 tiling-study m.h5 $pair -o study
says err 'overwrite'
expect 2 tiling-study m.h5 $pair
expect 2 tiling-study m.h5 $pair -o s2 --inner 1,x
says err "'x' is no pad"

# ---- The demo, cut short
expect 0 demo -o demo --steps 3 --frames 20 --threads 2
there demo/demo.png 10000
there demo/split.tif 100000
there demo/model.h5 1000
says out 'RI-PSNR'
says err 'training was too short'
expect 1 demo -o demo --steps 3
# ---- The paper's tables: killed once, stopped once, and gone on with
expect 0 help reproduce
says out 'Example:'
expect 2 reproduce --no-such-option
expect 2 reproduce -o paper
expect 2 reproduce table9 -o paper
expect 2 reproduce table2
expect 2 reproduce table2 -o paper --scale 2
expect 2 reproduce table2 -o paper --only nobody
says err "'nobody'"
expect 2 reproduce table2 -o paper $pair
expect 2 reproduce table1 -o paper
says err 'data-help'
expect 0 reproduce --data-help
says out 'OptiMEM100x014.tif'
expect 0 reproduce table2 --list --scale full
says out 'Regular-LC .* 2400 epochs'
absent paper

results() {
    find paper/runs -name result.json 2> /dev/null | sort
}
"$program" reproduce table2 --scale tiny -o paper --threads 1 > out 2> err < /dev/null &
pid=$!
for _ in $(seq 200); do
    [ -n "$(results)" ] && break
    sleep 0.05
done
kill -KILL $pid
wait $pid 2> /dev/null
finished=$(results)
checks=$((checks + 1))
[ -n "$finished" ] && [ "$(results | wc -l)" -lt 12 ] || fail "reproduce was not killed midway: $(results | wc -l) of 12 runs"
before=$(stat -c '%i %Y' $finished)
"$program" reproduce table2 --scale tiny -o paper --threads 1 > out 2> err < /dev/null &
pid=$!
for _ in $(seq 200); do
    [ "$(results | wc -l)" -gt "$(echo "$finished" | wc -l)" ] && break
    sleep 0.05
done
expect 1 reproduce table2 --scale tiny -o paper
says err 'another usplit reproduce'
kill -INT $pid
wait $pid
status=$?
checks=$((checks + 1))
[ $status = 130 ] || fail "interrupted reproduce: status $status, expected 130"
expect 0 reproduce table2 --scale tiny -o paper --threads 1
says err '/12. '
checks=$((checks + 3))
[ "$(results | wc -l)" = 12 ] || fail "$(results | wc -l) results, expected 12"
[ "$(stat -c '%i %Y' $finished)" = "$before" ] || fail 'a finished run was repeated'
[ "$(grep -c '^| [VLR][a-z-]*\(-LC\)* | [0-9.]* | [0-9.]* | [-+]' paper/table2-tiny.md)" = 12 ] ||
    fail "paper/table2-tiny.md has not 12 rows of numbers"
says paper/table2-tiny.md '^# Table 2.*scale tiny, not the published settings'
says paper/table2-tiny.md 'filters: 4 (paper: 64)'
says paper/table2-tiny.md 'Every row sees the same number of training pixels: 12 patches of 32 x 32'
[ "$(wc -l < paper/table2-tiny.csv)" = 13 ] || fail "paper/table2-tiny.csv has $(wc -l < paper/table2-tiny.csv) lines"
there paper/table2-tiny-figure5.png 10000
expect 0 reproduce table2 --scale tiny -o paper --quiet         # nothing left to do
checks=$((checks + 1))
[ ! -s err ] || fail 'a finished table was run again'
expect 0 reproduce table2 --scale tiny -o paper --steps 2 --only lean --task s128-n0 --quiet
checks=$((checks + 1))
[ "$(results | wc -l)" = 13 ] || fail 'other settings went to the old run, or nowhere'

# Own images; systems that cannot be run are rows with a reason
expect 0 reproduce table1 --scale tiny -o own $pair --names 'slow,fast' --threads 2 \
    --only double-dip,bravenet,unet-context-aware,unet-regular,hae-lean,hvae-xl
expect 0 reproduce table1 --scale tiny -o own $pair --names 'slow,fast' --threads 2 --only hvae-lean
there own/table1-tiny-figure7.png 4000
says own/table1-tiny.md 'table1-tiny-figure7.png'
expect 0 reproduce table1 --scale tiny -o own $pair --names 'slow,fast' --threads 2 \
    --only double-dip,bravenet,unet-context-aware,unet-regular,hae-lean,hvae-xl
says own/table1-tiny.md '^| HAE Lean-LC | | [0-9.]* | | | [-0-9.]* | | slow '
says own/table1-tiny.md '^| HVAE Vanilla-XL .*not run: no training frame is as large as a patch'
says own/table1-tiny.md '^| HAE Deep-LC .*not run: not asked for'
for system in BraveNet 'Context-Aware U-Net' 'U-Net Regular-LC'; do
    says own/table1-tiny.md "^| $system | | [0-9.]* | | | [-0-9.]* | | slow .* | 12 | "
done
says own/table1-tiny.md '^| Double-DIP | | [0-9.]* | | | [-0-9.]* | | slow .* none; 3 iterations a crop'
expect 0 reproduce fig4 --scale tiny -o own --data data --threads 2 --only hae-vanilla
there own/fig4-tiny.svg 2000
says own/fig4-tiny.md 'seam, no padding .*outer 64, dB / SSIM / seam'
says own/fig4-tiny.md '^| HAE Vanilla .* [0-9.]* / -*[0-9.]* / [0-9.]* |'

checks=$((checks + 1))
[ -z "$(find . -name '*.tmp')" ] || fail "temporary files are left: $(find . -name '*.tmp')"

[ $bad = 0 ] && echo "$checks checks of the program"
exit $bad
