#!/bin/bash
# snippets.sh PROGRAM LIBRARY-FOLDER: docs/first-steps.md does what it says. Its fenced blocks are run in order, in an empty
# folder that has this tree's products and sources by the names they have in a clone: ```sh in one shell that stops at the
# first failure; ```c and ```python are written to the file that the text before names last (`first/split.c`), Python's
# is then run by $PYTHON if that has NumPy. Indented blocks (network, root) and ```text (output) are not run.
set -u
program=$(realpath "$1") library=$(realpath "$2")
cd "$(dirname "$0")/../.." || exit 1
root=$PWD
page=$root/${3:-docs/first-steps.md}
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/clone" "$work/clone/bin"
ln -s "$program" "$work/clone/bin/usplit"
ln -s "$library" "$work/clone/lib"
ln -s "$root/include" "$root/bindings" "$root/examples" "$root/docs" "$work/clone/"

"$python" -c 'import numpy' 2> /dev/null && with_python=1 || with_python=0
# The page as one shell script: "cat" of a here-document for each file, commands as they are.
awk -v with_python=$with_python '
    function quoted_name(line,    name) {       # the last file named in backquotes
        while (match(line, /`[A-Za-z0-9_.\/-]+\.(c|py)`/)) {
            name = substr(line, RSTART + 1, RLENGTH - 2)
            line = substr(line, RSTART + RLENGTH)
        }
        return name
    }
    /^```/ && !kind {
        kind = substr($0, 4)
        if (kind !~ /^(sh|c|python|text)$/) { print "line " NR ": blocks are sh, c, python or text, not \"" kind "\"" > "/dev/stderr"; exit 1 }
        print "at=" NR
        if (kind == "sh") { n_sh++ }
        if (kind == "c" || kind == "python") {
            n_files++
            if (name == "") { print "line " NR ": no file is named for this block" > "/dev/stderr"; exit 1 }
            print "cat > " name " << \"END OF BLOCK\""
        }
        next
    }
    /^```/ {
        if (kind == "c" || kind == "python") { print "END OF BLOCK" }
        if (kind == "python" && with_python) { print "\"$python\" -B " name }
        kind = ""
        next
    }
    !kind { if ((found = quoted_name($0)) != "") { name = found } }
    kind && kind != "text" { print }
    END { if (kind) { print "a block does not end" > "/dev/stderr"; exit 1 }
          print "echo " n_sh " > \"$counts\"; echo " n_files " >> \"$counts\"" }' "$page" > "$work/body" || exit 1
{
    echo 'set -eu; at=0; trap '\''status=$?; [ $status = 0 ] || echo "line $at: status $status"'\'' EXIT'
    cat "$work/body"
} > "$work/script"
(
    cd "$work/clone" || exit 1
    export python counts="$work/counts" PYTHONPATH=bindings/python USPLIT_LIBRARY="$library/libusplit.so.0" OMP_NUM_THREADS=1
    timeout -k 5 200 bash "$work/script"
) > "$work/out" 2> "$work/err" < /dev/null
status=$?
if [ $status != 0 ]; then
    echo "${page#"$root"/}: $(grep '^line [0-9]*: status' "$work/out" || echo "status $status")"
    tail -8 "$work/err"
    exit 1
fi
# What the text says is there, is there: every path below first/ that it names in backquotes.
bad=0
for made in $(grep -o '`first/[A-Za-z0-9_./-]*`' "$page" | tr -d '`' | sort -u); do
    [ -s "$work/clone/$made" ] || { echo "${page#"$root"/}: $made was not made"; bad=1; }
done
if [ $bad = 0 ]; then
    echo "ok 1 - $(head -1 "$work/counts") blocks of commands and $(tail -1 "$work/counts") programs of ${page#"$root"/}"
    if [ $with_python = 0 ]; then
        echo "skip: $python has no NumPy"
        echo "ok 2 - the part in Python # SKIP"
    fi
fi
[ -z "${KEEP_OUTPUT:-}" ] || cat "$work/out"
exit $bad
