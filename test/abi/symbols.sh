#!/bin/bash
# symbols.sh LIBRARY [STATIC_LIBRARY]: what the library exports is what src/usplit.map lists, what the
# header declares and what docs/symbols.txt records. The static library defines usplit_ and us_ names only.
set -u
library=$(realpath "$1") static=${2:+$(realpath "$2")}
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=0
# "name version", the version from the node's name
awk '/^USPLIT_[0-9.]+ *\{/ { sub(/^USPLIT_/, "", $1); node = $1 }
     /^ *usplit_[a-z0-9_]+;/ { sub(/;.*/, "", $1); print $1, node }' src/usplit.map | sort > "$work/map_since"
awk '{ print $1 }' "$work/map_since" > "$work/map"
awk -v mode=functions -f test/abi/header_table.awk include/usplit.h | sort > "$work/header"
# A line with the word `removed` takes its name out of the promise.
awk '!/^#/ && NF && !/ removed/ { print $1, $2 }' docs/symbols.txt | sort > "$work/ledger"
nm -D --defined-only "$library" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort > "$work/exported"

same() {    # what, file, other, file
    if ! diff "$2" "$4" > "$work/diff"; then
        echo "$1 (<) and $3 (>) differ:"
        grep '^[<>]' "$work/diff"
        bad=1
    fi
}
same "src/usplit.map" "$work/map" "include/usplit.h" "$work/header"
same "src/usplit.map" "$work/map_since" "docs/symbols.txt" "$work/ledger"
same "src/usplit.map" "$work/map" "the library" "$work/exported"
if [ -n "$static" ]; then
    nm -g --defined-only "$static" 2>/dev/null | awk 'NF == 3 && $3 !~ /^(usplit|us)_/ { print $3 }' | sort -u > "$work/foreign"
    if [ -s "$work/foreign" ]; then
        echo "the static library defines names outside usplit_ and us_:"
        cat "$work/foreign"
        bad=1
    fi
fi
[ $bad = 0 ] && echo "$(wc -l < "$work/exported") exported symbols, as in the map, the header and the ledger"
exit $bad
