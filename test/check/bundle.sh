#!/bin/bash
# bundle.sh ARCHIVE: the bundle of `make bundle` runs in a folder that nobody knew when it was made. Which objects
# the loader takes is read from its own log: ours and third parties' from the bundle only, from the system glibc,
# libstdc++ and libgcc_s. Where chroot is allowed, the program and tests also run with nothing else in reach. A host
# program is compiled against it with pkg-config.
set -u
archive=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=0
fail() {
    echo "$1"
    [ -s "$work/log" ] && sed 's/^/    /' "$work/log" | tail -8
    bad=1
}

mkdir "$work/a place"
tar -C "$work/a place" -xzf "$archive" || exit 1
bundle=$(echo "$work/a place"/*)
unset LD_LIBRARY_PATH

# ---- What the loader takes
system='(ld-linux[^/]*|libc|libm|libmvec|libpthread|libdl|librt|libresolv|libstdc\+\+|libgcc_s)\.so[.0-9]*'
strangers() {       # PROGRAM ARGUMENT...: objects from elsewhere
    rm -f "$work"/loaded.*
    LD_DEBUG=libs LD_DEBUG_OUTPUT="$work/loaded" "$@" > "$work/log" 2>&1 < /dev/null
    echo $? > "$work/status"
    cat "$work"/loaded.* | sed -n 's/.*calling init: //p' | sort -u > "$work/all"
    grep -Ev "/$system\$" "$work/all" | grep -vF "$bundle/" | grep -vFx "$1"
}
only_ours() {       # LEAST-OBJECTS PROGRAM ARGUMENT...
    local least=$1
    shift
    local others
    others=$(strangers "$@")
    [ "$(cat "$work/status")" = 0 ] || fail "$*: status $(cat "$work/status")"
    [ -z "$others" ] || fail "$1 takes from outside the bundle: $others"
    [ "$(grep -cF "$bundle/" "$work/all")" -ge "$least" ] || fail "$1: the loader's log is not understood"
}
tiny="--family hae --filters 8 --z 8 --levels 2 --patch 32 --batch 4 --steps-per-epoch 2 --epochs 1 --threads 2 --device cpu -q"
only_ours 10 "$bundle/bin/usplit" --version
only_ours 10 "$bundle/bin/usplit" synth -o "$work/c" --frames 10 --size 64 --curves 2
only_ours 10 "$bundle/bin/usplit" train --channel "$work/c/ch1.tif" --channel "$work/c/ch2.tif" -o "$work/m.h5" $tiny
only_ours 10 "$bundle/bin/usplit" split "$work/m.h5" "$work/c/ch1.tif" -o "$work/o.tif" --preview "$work/o.png" --device cpu -q
[ -s "$work/o.tif" ] && [ -s "$work/o.png" ] || fail "split wrote nothing"
for object in "$bundle"/lib/*.so* "$bundle"/bin/* "$bundle"/tests/*/*; do
    case $object in *.h5) continue ;; esac
    path=$(readelf -d "$object" 2> /dev/null | sed -n 's/.*R[UN]*PATH).*\[\(.*\)\]/\1/p')
    # Nothing points to folders of the machine that it was made on.
    case $path in '' | \$ORIGIN*) ;; *) fail "${object##*/} looks in $path" ;; esac
done
missing=$(awk '{ print $1 }' "$bundle/licences/LIBRARIES" | while read -r name; do [ -e "$bundle/lib/$name" ] || echo "$name"; done)
[ -z "$missing" ] || fail "listed, not there: $missing"
awk '{ print $2 }' "$bundle/licences/LIBRARIES" | sort -u | while read -r package; do
    [ -s "$bundle/licences/$package" ] || echo "$package"
done > "$work/log"
[ ! -s "$work/log" ] || fail "licences are missing"

# ---- Nothing else in reach
cage=$work/cage
mkdir -p "$cage/tmp"
cp -a "$bundle" "$cage/bundle"
for object in $(grep -E "/$system\$" "$work/all") /lib64/ld-linux-*.so* /lib/ld-linux-*.so*; do
    [ -e "$object" ] || continue
    mkdir -p "$cage$(dirname "$object")"
    cp -L "$object" "$cage$object"
done
for name in libdl.so.2 librt.so.1 libpthread.so.0 libresolv.so.2; do        # the stubs of glibc that older objects name
    from=$(ldconfig -p 2> /dev/null | awk -v name="$name" '$1 == name { print $NF; exit }')
    [ -z "$from" ] || { mkdir -p "$cage$(dirname "$from")"; cp -L "$from" "$cage$from"; }
done
# The loader asks /proc for the folder of the program, which is not here.
caged() {
    LD_ORIGIN_PATH=$(dirname "$1") chroot "$cage" "$@" > "$work/log" 2>&1
}
if caged /bundle/bin/usplit --version; then
    where="in a chroot of $(find "$cage" -path "$cage/bundle" -prune -o -type f -print | wc -l) system files"
    caged /bundle/bin/usplit synth -o /tmp/c --frames 10 --size 64 --curves 2 &&
        caged /bundle/bin/usplit train --channel /tmp/c/ch1.tif --channel /tmp/c/ch2.tif -o /tmp/m.h5 $tiny &&
        caged /bundle/bin/usplit info /tmp/m.h5 --check || fail "does not run in a chroot"
    for name in base tiff tiler_args view; do      # those that want neither /proc nor a shell
        caged "/bundle/tests/cpu/test_$name" || fail "test_$name fails in a chroot"
    done
elif grep -q "Operation not permitted\|cannot change root" "$work/log"; then
    where="not tried in a chroot (not permitted here)"
else
    where=""
    fail "usplit does not start in a chroot"
fi

# ---- A host program
cat > "$work/host.c" <<'END'
#include <stdio.h>
#include <usplit.h>
int main(void)
{
    usplit_context *context;
    usplit_context_facts facts = {.struct_size = sizeof facts};
    usplit_context_options options;
    usplit_context_options_init(&options, sizeof options);
    options.device = "cpu";
    if (usplit_context_create(&context, &options) || usplit_context_info(context, &facts)) {
        puts(usplit_error_message());
        return 1;
    }
    printf("%s %s\n", facts.device, facts.engine);
    usplit_context_free(context);
    return usplit_version() != USPLIT_VERSION_NUMBER;
}
END
if command -v pkg-config > /dev/null; then
    # A folder without blanks: pkg-config escapes them, and this script's words would not survive it.
    mv "$bundle" "$work/bundle"
    bundle=$work/bundle
    flags=$(PKG_CONFIG_PATH="$bundle/lib/pkgconfig" PKG_CONFIG_LIBDIR=/nowhere pkg-config --cflags --libs usplit 2> "$work/log")
    case $flags in *"$bundle"*) ;; *) fail "pkg-config says: $flags" ;; esac
    "${CC:-gcc}" -std=c99 -Wall -Werror -o "$work/host" "$work/host.c" $flags -Wl,-rpath,"$bundle/lib" > "$work/log" 2>&1 ||
        fail "a host program does not compile: $flags"
    only_ours 3 "$work/host"
fi

# ---- Its own tests
"$bundle/run-tests.sh" test_base test_tiff test_api > "$work/log" 2>&1 || fail "run-tests.sh fails"
tail -n 1 "$work/log" | grep -q '^[1-9][0-9]* passed, 0 failed' || fail "run-tests.sh does not sum up"
[ $bad = 0 ] && echo "runs where it is put, $where; host program, licences and run-tests.sh as they should be"
exit $bad
