#!/bin/bash
# install.sh MODE: `make install` into a scratch folder gives a host all it needs (pkg-config, header,
# shared and static library), and `make uninstall` leaves nothing behind.
set -eu
cd "$(dirname "$0")/../.."
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
make --no-print-directory MODE="$1" PREFIX="$stage/usr" install
cat > "$stage/host.c" <<'END'
#include <stdio.h>
#include <usplit.h>
int main(void)
{
    printf("runs with libusplit %d, built with %d\n", (int)usplit_version(), USPLIT_VERSION_NUMBER);
    return usplit_version() != USPLIT_VERSION_NUMBER;
}
END
if command -v pkg-config > /dev/null; then
    flags=$(PKG_CONFIG_PATH="$stage/usr/lib/pkgconfig" pkg-config --cflags --libs usplit)
else
    flags="-I$stage/usr/include -L$stage/usr/lib -lusplit"
fi
${CC:-gcc} -std=c99 -Wall -Werror -o "$stage/host" "$stage/host.c" $flags
LD_LIBRARY_PATH="$stage/usr/lib" "$stage/host"
needed=$(objdump -p "$stage/usr/lib/libusplit.so" | awk '$1 == "NEEDED" { print $2 }')
for library in $needed; do
    case $library in
    libhdf5*.so* | libdnnl.so* | libm.so* | libmvec.so* | libc.so* | libpthread.so* | libdl.so* | ld-linux*.so*) ;;
    *) echo "libusplit.so needs $library; accepted: HDF5, oneDNN, libm, pthreads"; exit 1 ;;
    esac
done
grep -q '^\.TH USPLIT 1' "$stage/usr/share/man/man1/usplit.1"
bash -n "$stage/usr/share/bash-completion/completions/usplit"
grep -q '^complete .* usplit$' "$stage/usr/share/bash-completion/completions/usplit"
make --no-print-directory MODE="$1" PREFIX="$stage/usr" uninstall
left=$(find "$stage/usr" ! -type d)
[ -z "$left" ] || { echo "uninstall left: $left"; exit 1; }
echo "install, pkg-config, a host program, uninstall: as they should be"
