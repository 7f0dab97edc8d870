#!/bin/bash
# cli_shards.sh PROGRAM: a split run shared by several processes and merged is the run, byte for byte; and merge says in
# one line what is missing, twice there, altered, or of another run.
set -u
. "$(dirname "$0")/cli_common.bash" || exit 1

machine="--threads 1 --device cpu"
# An HVAE: its noise is what a shard would get wrong first.
expect 0 synth -o data --frames 3 --size 128
expect 0 train --channel data/ch1.tif --channel data/ch2.tif --family hvae --filters 8 --z 8 --levels 2 --patch 32 --batch 4 \
    --steps 2 --val-patches 4 --names 'slow 100%,fast' -o m.h5 --quiet $machine
expect 0 synth -o large --frames 1 --size 300
large=large/ch1.tif

# ---- One large image
noise="--samples 2 --seed 7 $machine"
expect 0 split m.h5 $large -o whole.tif $noise --quiet
for i in 1 2 3 4; do
    expect 0 split m.h5 $large -o large.tif $noise --shard $i/4 --quiet
done
[ ! -e large.tif ] || fail 'a shard wrote the image itself'
expect 0 merge -o large.tif large.tif.*of4.shard --json
same whole.tif large.tif
says out '"shards": 4'
for key in files shards rows saturated_pixels; do       # as docs/command-line.md says
    says out "\"$key\": "
done
expect 1 merge -o large.tif large.tif.*of4.shard
says err 'overwrite'
expect 0 merge -o large.tif large.tif.*of4.shard --overwrite --quiet
same whole.tif large.tif
expect 1 split m.h5 $large -o large.tif $noise --shard 2/4
says err 'large.tif.2of4.shard exists; --overwrite replaces it'
expect 0 split m.h5 $large -o large.tif $noise --shard 2/4 --overwrite --quiet --json
says out '"large.tif.2of4.shard"'

# ---- Shifted grids, deviations, an integer type, more shards than rows of tiles
grids="--shifts 3 --deviations --type u16 $machine"
expect 0 split m.h5 $large -o grids.tif $grids --quiet
for i in $(seq 25); do
    expect 0 split m.h5 $large -o g $grids --shard $i/25 --quiet
done
mkdir shards && mv g.*of25.shard shards
expect 0 merge -o merged.tif shards
same grids.tif merged.tif
expect 0 merge -o as-a-folder shards
same grids.tif as-a-folder/ch1_split.tif

# ---- A folder, pages of every file; a part begins within a page
expect 0 split m.h5 data -o folder $noise --sum --frames 1:3 --quiet
for i in 1 2 3 4 5; do
    expect 0 split m.h5 data -o parts/ $noise --sum --frames 1:3 --shard $i/5 --quiet
done
expect 2 merge -o one.tif parts.*of5.shard
says err '2 images do not fit into one file'
expect 0 merge -o parts parts.*of5.shard
same folder/ch1_split.tif parts/ch1_split.tif
same folder/ch2_split.tif parts/ch2_split.tif

# ---- What is missing
"$program" split m.h5 large -o killed $noise --samples 60000 --shard 2/3 > out 2> err < /dev/null &
pid=$!
sleep 1
kill -KILL $pid || fail 'the shard to be killed was done before'
wait $pid 2> /dev/null
checks=$((checks + 1))
[ ! -e killed.2of3.shard ] || fail 'a killed shard has left a file under its name'
for i in 1 3; do
    expect 0 split m.h5 large -o killed $noise --shard $i/3 --quiet
done
expect 1 merge -o k killed.*of3.shard
says err '^usplit: merge: missing: shard 2 of 3$'
[ ! -e k ] || fail 'a refused merge has made its folder'
mv large.tif.3of4.shard large.tif.4of4.shard shards
expect 1 merge -o no.tif large.tif.*of4.shard
says err 'missing: shards 3, 4 of 4$'
mv shards/large.tif.*.shard .
expect 1 merge -o no.tif large.tif.1of4.shard
says err 'missing: shards 2, 3, 4 of 4$'

# ---- What is no file
mkfifo pipe.shard
expect 1 merge -o no.tif pipe.shard
says err 'is no file but a pipe'
expect 1 import pipe.shard -o no.h5
says err 'pipe.shard: is no file but a pipe'
expect 1 import "$tree/test/data/import_tiny.ckpt" --config pipe.shard -o no.h5
says err 'pipe.shard: is no file but a pipe'

# ---- What does not belong together
expect 1 merge -o no.tif large.tif.*of4.shard killed.1of3.shard
says err 'is one of 3 shards'
cp large.tif.2of4.shard copy.shard
expect 1 merge -o no.tif large.tif.*of4.shard copy.shard
says err 'are both shard 2 of 4'
other() {   # WORDS OPTIONS...: shard 2 of 4 made otherwise
    local words=$1
    shift
    expect 0 split "$@" -o other.tif --shard 2/4 --quiet --overwrite
    expect 1 merge -o no.tif large.tif.1of4.shard other.tif.2of4.shard large.tif.3of4.shard large.tif.4of4.shard
    says err "$words"
}
other 'other options' m.h5 $large --samples 2 --seed 8 $machine
other 'other options' m.h5 $large --sum $noise
other 'other images' m.h5 large/ch2.tif $noise
cp m.h5 m2.h5
expect 0 train --channel data/ch1.tif --channel data/ch2.tif --family hvae --filters 8 --z 8 --levels 2 --patch 32 --batch 4 \
    --steps 3 --val-patches 4 -o m2.h5 --quiet --overwrite $machine
other 'another model' m2.h5 $large $noise
rm copy.shard large.tif.2of4.shard
expect 0 split m.h5 $large -o large.tif $noise --memory 900M --shard 2/4 --quiet     # decides no pixel
expect 0 merge -o large.tif large.tif.*of4.shard --overwrite --quiet
same whole.tif large.tif

# ---- Damaged files
size=$(stat -c %s large.tif.2of4.shard)
for at in 3 40 200 $((size / 2)) $((size - 3)); do
    cp large.tif.2of4.shard damaged.shard
    printf '\x5a' | dd of=damaged.shard bs=1 seek="$at" conv=notrunc 2> /dev/null
    expect 1 merge -o no.tif large.tif.1of4.shard damaged.shard large.tif.3of4.shard large.tif.4of4.shard
    says err 'damaged.shard: not a whole shard'
done
head -c $((size - 100)) large.tif.2of4.shard > damaged.shard
expect 1 merge -o no.tif damaged.shard
expect 1 merge -o no.tif $large
expect 1 merge -o no.tif nothing.shard
expect 1 merge -o no.tif data
says err 'no .shard files'
[ ! -e no.tif ] || fail 'a refused merge has written an image'

# ---- Wrong usage
for part in 0/4 5/4 1 x/4 1/4x 1/0 -1/4 1/100001; do
    expect 2 split m.h5 $large -o no.tif --shard=$part
    says err 'is not a part like 1/8'
done
expect 2 split m.h5 $large -o no.tif --shard 1/4 --preview p.png
expect 2 merge -o no.tif
expect 2 merge large.tif.1of4.shard
checks=$((checks + 1))
[ -z "$(find . -name '*.tmp' ! -name '.killed*')" ] || fail "temporary files are left: $(find . -name '*.tmp')"

[ $bad = 0 ] && echo "$checks checks of shards"
exit $bad
