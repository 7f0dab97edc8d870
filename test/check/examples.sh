#!/bin/bash
# examples.sh FOLDER: runs every compiled example of examples/c, which lie in FOLDER. How is told by lines in
# the example's own opening comment:
#     Run: NAME ARGUMENTS        must end with status 0
#     Fails: NAME ARGUMENTS      must end with another status, not by a signal, and say why on stderr
# SCRATCH stands for an empty folder that all examples share. train_pair goes first: it makes the model that
# others load.
set -u
folder=$(realpath "$1" 2> /dev/null || echo "$1")
cd "$(dirname "$0")/../.."
sources=$(ls examples/c/*.c 2> /dev/null)
if [ -z "$sources" ]; then
    echo "there are no examples in examples/c"
    exit 1
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
first=$(printf '%s\n' $sources | grep train_pair)
rest=$(printf '%s\n' $sources | grep -v train_pair)
bad=0 runs=0
for source in $first $rest; do
    name=$(basename "$source" .c)
    lines=$(sed -n '1,40s/^[ /*]*\(Run\|Fails\): *\('"$name"'\(  *.*\)\{0,1\}\)$/\1 \2/p' "$source")
    if [ -z "$lines" ]; then
        echo "$source: no line \"Run: $name ...\" in its opening comment"
        bad=1
        continue
    fi
    while read -r expect command; do
        arguments=${command#"$name"}
        (cd "$scratch" && timeout -k 5 120 "$folder/$name" ${arguments//SCRATCH/$scratch}) > "$scratch/.out" 2> "$scratch/.err" < /dev/null
        status=$?
        runs=$((runs + 1))
        if [ "$expect" = Run ] && [ $status != 0 ]; then
            echo "$command: status $status"
            tail -5 "$scratch/.err"
            bad=1
        elif [ "$expect" = Fails ] && { [ $status = 0 ] || [ $status -ge 124 ] || [ ! -s "$scratch/.err" ]; }; then
            echo "$command: status $status, \"$(head -1 "$scratch/.err")\"; it must fail and say why"
            bad=1
        fi
    done <<< "$lines"
done
[ $bad = 0 ] && echo "$runs runs of the examples ended as they should"
exit $bad
