# What the checks of the usplit program share: cli_smoke.sh, cli_rules.sh, cli_shards.sh and cli_trust.sh source it with the
# program as their first argument. It goes to an empty folder that is removed at the end, and sets
#     program, tree, folder      the program, this tree, that folder; absolute
#     seconds                    that a run of the program may take
#     bad, checks                1 once something failed; how much was checked
program=$(realpath "$1")
tree=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")
script=$(basename "$0" .sh)
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1
seconds=60      # set here, as run_tests has a variable of that name in the environment
bad=0 checks=0

fail() {
    echo "$script: $1"
    sed 's/^/    /' err 2> /dev/null | tail -5
    bad=1
}

# expect STATUS WORDS...: runs the program; its output goes to files out and err.
expect() {
    local status=$1
    shift
    checks=$((checks + 1))
    timeout -k 5 "$seconds" "$program" "$@" > out 2> err < /dev/null
    local is=$?
    [ $is = "$status" ] || fail "usplit $*: status $is, expected $status"
    # A failure says why, in one line of its own.
    if [ "$status" = 1 ] || [ "$status" = 2 ]; then
        [ "$(grep -c '^usplit: ' err)" = 1 ] || fail "usplit $*: not one error line"
    fi
}

says() {    # FILE WORDS
    checks=$((checks + 1))
    grep -q -- "$2" "$1" || fail "'$2' is not in $1: $(head -3 "$1")"
}

silent() {  # FILE WORDS
    checks=$((checks + 1))
    ! grep -q -- "$2" "$1" || fail "'$2' is in $1"
}

same() {    # FILE FILE
    checks=$((checks + 1))
    cmp -s "$1" "$2" || fail "$1 and $2 differ"
}

there() {   # FILE AT-LEAST-BYTES
    checks=$((checks + 1))
    [ -f "$1" ] && [ "$(stat -c %s "$1")" -ge "$2" ] || fail "$1 is missing or shorter than $2 bytes"
}

absent() {  # FILE
    checks=$((checks + 1))
    [ ! -e "$1" ] || fail "$1 is there"
}
