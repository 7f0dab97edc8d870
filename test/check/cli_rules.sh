#!/bin/bash
# cli_rules.sh PROGRAM: what holds for every command. JSON on standard output and nothing else there; files that exist are
# kept; exit statuses 0, 1, 2, 130, also when stopped, when nobody reads and when the output is closed or full; progress as
# lines where there is no terminal; every option in the manual page and in the completion, which is tried in bash.
set -u
. "$(dirname "$0")/cli_common.bash" || exit 1
sources=$tree/src/cli

# json KEY...: out is one JSON object that has these keys; keys within objects and first entries of lists as a.b.
json() {
    checks=$((checks + 1))
    if ! python3 -c 'import json' 2> /dev/null; then
        for key in "$@"; do
            grep -q "\"${key##*.}\": " out || fail "no key $key"
        done
        return
    fi
    python3 - "$@" 2> err << 'END' || fail "not the JSON that is documented"
import json, sys
whole = json.load(open("out", encoding="utf-8"))
for key in sys.argv[1:]:
    at = whole
    for part in key.split("."):
        at = at[0] if isinstance(at, list) else at
        assert part in at, key
        at = at[part]
END
}

# documented COMMAND: out has the keys that docs/command-line.md gives for the command, and no others (info: others too).
documented() {
    sed -n '/^## JSON/,$p' "$tree/docs/command-line.md" | awk -F'|' -v name="\`$1\`" 'index($2, name) { print $3 }' |
        grep -o '`[a-z_]*`' | tr -d '`' | grep -vx "$1\|demo" | sort -u > keys
    checks=$((checks + 2))
    [ -s keys ] || fail "no keys of $1 are documented"
    for key in $(cat keys); do
        grep -q "\"$key\": " out || fail "$1 --json has no $key, which is documented"
    done
    for key in $(grep -o '^ *"[a-z_]*": ' out | tr -d '": ' | sort -u); do
        [ "$1" = info ] || grep -qx "$key" keys || fail "$1 --json has $key, which is not documented"
    done
}

# value KEY: of a number in out
value() {
    sed -n "s/^ *\"$1\": \([-0-9.e+]*\),*$/\1/p" out | head -1
}

machine="--threads 1 --device cpu"
tiny="--family hvae --filters 8 --z 8 --levels 2 --patch 32 --batch 4 --val-patches 4 $machine"
expect 0 synth -o data --frames 3 --size 128
pair='--channel data/ch1.tif --channel data/ch2.tif'

# ---- JSON: the documented keys, and nothing else on standard output
expect 0 train $pair $tiny --steps 2 -o m.h5 --json
json model last stopped stopped_early epochs steps skipped_steps best_epoch best_val_psnr val_psnr loss seconds
documented train
expect 0 split m.h5 data/ch1.tif -o s.tif --samples 2 --json $machine
json files device pages tiles passes samples latent shifts deviations patch inner planned_bytes peak_bytes clip_value \
    clipped_pixels saturated_pixels seconds channels.name channels.gain channels.offset
documented split
split_tiles=$(value tiles) split_passes=$(value passes) split_bytes=$(value planned_bytes)
expect 0 eval m.h5 $pair --json --quiet $machine
json model frames channels.split.ri_psnr channels.input.seam channels.frames.ssim
documented eval
expect 0 info m.h5 --check --json $machine
json file family variant levels lc_count filters patch z_dims parameters macs_per_patch epochs_trained steps_trained \
    channels.name train.batch train.arena_bytes predict.inner predict.macs check.ok check.error
documented info
expect 0 doctor m.h5 --json --threads 1
json library program threads devices.name devices.usable loaded file tests.device tests.ok tests.difference
documented doctor
expect 0 dip $pair --crop 65 --crops 1 --iterations 2 --threads 1 -o dip.tif --json --quiet
json mixtures file crops.iterations crops.ri_psnr mean_ri_psnr
documented dip
mkdir odd && cp data/ch1.tif odd/$'\xff"\\\x01\xc3\xa4.tif'
expect 0 split m.h5 odd -o odd-out --json --quiet --frames 0:1 $machine
json files
[ ! -s err ] || fail '--quiet is not quiet'

# ---- Plans: those of the run itself
expect 0 plan m.h5 data/ch1.tif --samples 2 --json $machine
json model device split.images split.pages split.height split.width split.tiles split.tile_rows split.tile_columns \
    split.passes split.patch split.inner split.batch split.workers split.planned_bytes split.device_bytes split.macs \
    split.estimated_seconds
checks=$((checks + 3))
[ "$(value tiles)" = "$split_tiles" ] || fail "plan: $(value tiles) tiles, the run had $split_tiles"
[ "$(value passes)" = "$split_passes" ] || fail "plan: $(value passes) passes, the run had $split_passes"
[ "$(value planned_bytes)" = "$split_bytes" ] || fail "plan: $(value planned_bytes) bytes, the run had $split_bytes"
expect 0 plan m.h5 --size 300x200 --patch 64 --pad 8 --shifts 2 $machine
says out '^splitting 300 x 200 pixels'
says out '^tiles     70 of 64 pixels, the inner 48 kept; 70 passes'      # 7 x 5 of both grids: 24 pixels more change nothing
says out '^time      about .* (estimate'
expect 0 plan m.h5 data --no-time $machine
says out '^splitting 6 pages of 2 images'
! grep -q '^time' out || fail 'a time was told in spite of --no-time'
expect 0 plan --family hae --filters 8 --levels 2 --patch 32 --batch 6 --steps 10 --json $machine
json train.batch train.part_batch train.arena_bytes train.parameter_bytes train.macs_per_step \
    train.estimated_seconds_per_step train.steps train.estimated_seconds
[ "$(value batch)" = 6 ] && [ "$(value part_batch)" = 6 ] || fail 'plan: another batch'
whole=$(value arena_bytes)
expect 0 plan --family hae --filters 8 --levels 2 --patch 32 --size 64x64 --json $machine
documented plan
expect 0 plan --family hae --filters 8 --levels 2 --patch 32 --batch 6 --memory 6M --no-time --json $machine
checks=$((checks + 1))
[ "$(value part_batch)" -lt 6 ] && [ "$(value arena_bytes)" -lt "$whole" ] || fail 'plan: a budget makes no parts'
expect 1 plan --family hae --filters 8 --levels 2 --patch 32 --memory 100K --no-time $machine
says err 'helps'
expect 2 plan m.h5
expect 2 plan m.h5 data/ch1.tif --size 10x10
expect 2 plan m.h5 --size 10
expect 2 plan m.h5 --size 64x64 --levels 3
expect 1 plan nothing.h5 --size 64x64
expect 0 plan m.h5 --train --no-time $machine
says out '^training  batch 32$'

# ---- What exists is kept, and the work is not begun
keeps() {   # FILE WORDS...: the command refuses because of the file and leaves it as it is
    local file=$1
    shift
    mkdir -p "$(dirname "$file")"
    echo mine > "$file"
    expect 1 "$@"
    says err "$file exists; --overwrite replaces it"
    checks=$((checks + 1))
    [ "$(cat "$file")" = mine ] || fail "usplit $1 has replaced $file"
    rm "$file"
}
keeps new.h5 train $pair $tiny --steps 1 -o new.h5
keeps new.last.h5 train $pair $tiny --steps 1 -o new.h5
keeps new.svg train $pair $tiny --steps 1 -o new.h5
keeps new.html train $pair $tiny --steps 1 -o new.h5
keeps h.csv train $pair $tiny --steps 1 -o new.h5 --history h.csv
keeps o.tif split m.h5 data/ch1.tif -o o.tif $machine
keeps o/ch2_split.tif split m.h5 data -o o $machine
keeps o.png split m.h5 data/ch1.tif -o o2.tif --preview o.png $machine
keeps e.png eval m.h5 $pair --picture e.png $machine
keeps e/ch1_0002.tif eval m.h5 $pair -o e $machine
[ ! -e e/ch1_0000.tif ] || fail 'eval has begun before it looked'
keeps t/tiling.svg tiling-study m.h5 $pair -o t
keeps y/ch2.tif synth -o y --frames 1
keeps d.tif dip data/ch1.tif -o d.tif
[ ! -e "$tree/test/data/import_tiny.ckpt" ] ||
    keeps i.h5 import "$tree/test/data/import_tiny.ckpt" -o i.h5
for file in demo.png split.tif model.h5 model.svg; do
    keeps d/$file demo -o d --steps 1
done
cp s.tif kept.tif
expect 0 split m.h5 data/ch1.tif -o s.tif --overwrite --samples 2 --quiet $machine
cmp -s s.tif kept.tif || fail 'the same split differs'

# ---- Stopped: status 130, one line, nothing half written
stopped() { # FILE WORDS...: interrupted while it works
    local file=$1
    shift
    "$program" "$@" > out 2> err < /dev/null &
    local pid=$!
    sleep 1
    kill -INT $pid || fail "usplit $1 was done before it could be stopped"
    wait $pid
    local is=$?
    checks=$((checks + 3))
    [ $is = 130 ] || fail "usplit $1, interrupted: status $is, expected 130"
    [ "$(grep -c "^usplit: $1: stopped" err)" = 1 ] || fail "usplit $1, interrupted: not one line"
    [ ! -e "$file" ] || fail "usplit $1, interrupted: $file is there"
}
stopped i.tif split m.h5 data/ch1.tif -o i.tif --samples 20000 --quiet $machine
stopped i.1of2.shard split m.h5 data/ch1.tif -o i --shard 1/2 --samples 20000 --quiet $machine
stopped nothing eval m.h5 $pair --samples 20000 --quiet $machine
for number in INT TERM; do          # between and within the pages of many small ones
    expect 0 synth -o small --frames 300 --size 96 --overwrite
    "$program" split m.h5 small/ch1.tif -o i.tif --samples 50 --quiet $machine > out 2> err < /dev/null &
    pid=$!
    sleep 0.7
    kill -$number $pid
    wait $pid
    status=$?
    checks=$((checks + 1))
    [ $status = 130 ] || fail "SIG$number during split: status $status, expected 130"
done

# ---- Nobody reads, nothing takes what is printed
checks=$((checks + 5))
"$program" help --man 2> err | head -1 > out                # more than a pipe holds is not needed: it may end with 0
status=${PIPESTATUS[0]}
[ "$status" = 0 ] || [ "$status" = 141 ] || fail "help into head: status $status"
[ ! -s err ] || fail 'help into head says something'
{ sleep 0.3; "$program" info m.h5 --plan train $machine 2> err; echo $? > status; } | true
[ "$(cat status)" = 141 ] || fail "info into a closed pipe: status $(cat status), expected 141 (SIGPIPE)"
[ ! -s err ] || fail 'info into a closed pipe says something'
if [ -w /dev/full ]; then
    for words in --version help 'help --man' 'info m.h5' 'help split' 'completion bash'; do
        "$program" $words > /dev/full 2> err
        status=$?
        checks=$((checks + 1))
        [ $status = 1 ] && grep -q 'cannot write to standard output' err || fail "$words to a full device: status $status"
    done
fi
# With standard output closed, its number would go to the next file that is opened.
cp m.h5 before.h5
"$program" split m.h5 data/ch1.tif -o closed.tif --json --samples 2 --quiet $machine >&- 2> err
status=$?
checks=$((checks + 2))
[ $status = 1 ] || fail "standard output closed: status $status, expected 1"
cmp -s closed.tif s.tif || fail 'standard output closed: the image holds what was to be printed'
"$program" train $pair $tiny --steps 1 -o quiet.h5 --quiet $machine >&- 2>&-
status=$?
checks=$((checks + 1))
[ $status = 0 ] || fail "both closed: status $status, expected 0"

# ---- Progress: lines without a terminal, a line that rewrites itself on one
expect 0 split m.h5 data/ch1.tif -o p.tif --samples 40 --progress 0.2 $machine
says err 'page [123]/3  tile [0-9]*/[0-9]*  '
checks=$((checks + 2))
! grep -q $'\r' err || fail 'a rewriting line in a file'
[ ! -s out ] || fail 'progress on standard output'
expect 2 split m.h5 data/ch1.tif -o p2.tif --progress 0
if command -v script > /dev/null; then
    checks=$((checks + 2))
    TERM=xterm script -qec "'$program' split m.h5 data/ch1.tif -o p3.tif --samples 30 --frames 0:1 $machine" typed > /dev/null < /dev/null
    grep -q $'\r' typed || fail 'no rewriting line on a terminal'
    TERM=dumb script -qec "'$program' split m.h5 data/ch1.tif -o p4.tif --samples 30 --frames 0:1 $machine" typed > /dev/null < /dev/null
    ! grep -q $'\033' typed || fail 'a dumb terminal got an escape sequence'
fi

# ---- The manual page and the completion have every option; the sources say which there are
"$program" help --man > usplit.1
"$program" completion bash > complete.bash
"$program" completion zsh > complete.zsh
"$program" completion fish > complete.fish
options=$(sed -n 's/^[^"]*{"\(--[a-z0-9-]*\)".*/\1/p' "$sources"/*.c "$sources"/*.h | sort -u)
checks=$((checks + 1))
[ "$(echo "$options" | wc -l)" -gt 60 ] || fail "only $(echo "$options" | wc -l) options in the sources"
for option in $options; do
    checks=$((checks + 3))
    grep -q "^\(\\\\fB\\\\-.\\\\fR, \|\\\\fB[^ ]*\\\\fR, \)\?\\\\fB${option//-/\\\\-}\\\\fR" usplit.1 || fail "$option is not in the manual page"
    grep -q -- " $option[ ']" complete.bash || fail "$option is not in the completion of bash"
    grep -q -- " -l ${option#--} " complete.fish || fail "$option is not in the completion of fish"
done
commands=$("$program" help | sed -n 's/^  usplit \([a-z-]*\)  .*/\1/p')
for command in $commands; do
    expect 0 help "$command"
    says usplit.1 "^\\.SS usplit $command$"
    says "$tree/docs/command-line.md" "^| \`$command\` | \`.*usplit $command"
    sed -n 's/^  \(-[-a-z]*, \)\?\(--[a-z0-9-]*\).*/\2/p' out | sort > listed
    line=$(sed -n "s/^ *$command) words='--help\(.*\)' ;;/\1/p" complete.bash)
    checks=$((checks + 1))
    [ "$(echo $line | tr ' ' '\n' | grep . | sort)" = "$(cat listed)" ] ||
        fail "help $command and its completion differ"
done
if command -v mandoc > /dev/null; then
    checks=$((checks + 1))
    mandoc -Tlint -W warning usplit.1 > err 2>&1 || fail 'mandoc warns'
fi
if command -v man > /dev/null && command -v groff > /dev/null; then
    checks=$((checks + 2))
    LC_ALL=C.UTF-8 MANROFFSEQ= man --warnings=w -l usplit.1 > out 2> err < /dev/null
    [ ! -s err ] || fail 'man warns'
    grep -q -- '--shard I/N' out || fail 'man does not show --shard I/N'
fi

# complete WORDS...: what bash offers for the last of them, sorted, in one line
complete_bash() {
    bash --norc --noprofile -c '
        . ./complete.bash || exit 1
        COMP_WORDS=("$@")
        COMP_CWORD=$(($# - 1))
        _usplit
        printf "%s\n" "${COMPREPLY[@]}" | sort | tr "\n" " "' bash "$@"
}
offers() {  # EXPECTED WORDS...
    local expected=$1
    shift
    checks=$((checks + 1))
    local is
    is=$(complete_bash "$@")
    [ "$is" = "$expected" ] || fail "completing '$*': '$is', expected '$expected'"
}
bash -n complete.bash || fail 'bash cannot read its completion'
offers 'split ' usplit spl
offers 'info ' usplit inf
offers 'help ' usplit hel
offers 'bravenet hae hvae unet ' usplit train --family ''
offers 'hae hvae ' usplit train --family h
offers 'bravenet ' usplit train --family = bra
offers 'bravenet hae hvae unet ' usplit train --family =
offers '--samples --seed --shard --shifts --sum ' usplit split m.h5 --s
offers '--out --outer --overwrite ' usplit split --o
offers ' ' usplit split --out ''
offers ' ' usplit split m.h5 da
offers 'bash fish zsh ' usplit completion ''
offers 'bash ' usplit completion b
offers 'merge ' usplit help me
grep -q '^#compdef usplit$' complete.zsh || fail 'the completion of zsh does not name what it completes'
if command -v zsh > /dev/null; then
    checks=$((checks + 1))
    zsh -n complete.zsh || fail 'zsh cannot read its completion'
fi
if command -v fish > /dev/null; then
    checks=$((checks + 1))
    fish -n complete.fish || fail 'fish cannot read its completion'
fi
expect 2 completion
expect 2 completion tcsh
says err "not 'tcsh'"

checks=$((checks + 1))
[ -z "$(find . -name '*.tmp')" ] || fail "temporary files are left: $(find . -name '*.tmp')"

[ $bad = 0 ] && echo "$checks checks of the rules for all commands"
exit $bad
