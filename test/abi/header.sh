#!/bin/bash
# The public header compiles alone, as C99 and as C++11, with every warning an error (-Wpadded: no
# hidden bytes in any struct), by gcc and by clang. A compiler that is not there is named.
set -u
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
printf '#include <usplit.h>\nint main(void) { return 0; }\n' > "$work/alone.c"
cp "$work/alone.c" "$work/alone.cpp"
flags='-Wall -Wextra -Wpedantic -Werror -Wpadded -Wstrict-prototypes -Iinclude'
bad=0 done=''
for pair in 'gcc c99 alone.c' 'clang c99 alone.c' 'g++ c++11 alone.cpp' 'clang++ c++11 alone.cpp'; do
    set -- $pair
    if ! command -v "$1" > /dev/null; then
        done="$done, no $1 here"
        continue
    fi
    case $2 in c++*) use=${flags/-Wstrict-prototypes /} ;; *) use=$flags ;; esac
    if "$1" -std="$2" $use -fsyntax-only "$work/$3"; then
        done="$done, $1 $2"
    else
        echo "usplit.h does not compile alone: $1 -std=$2"
        bad=1
    fi
done
foreign=$(sed -n 's/^ *# *include *<\(.*\)>.*/\1/p' include/usplit.h | grep -vx 'stddef.h\|stdint.h')
if [ -n "$foreign" ]; then
    echo "usplit.h includes $foreign; accepted: stddef.h, stdint.h"
    bad=1
fi
echo "header alone: ${done#, }"
exit $bad
