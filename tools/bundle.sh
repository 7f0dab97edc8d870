#!/bin/bash
# bundle.sh FOLDER LINKED VERSION PLUGIN GPU-TESTS [FIXTURE...]: puts a bundle together (Makefile.bundle). LINKED
# holds our objects, linked for it: lib/, bin/, tests/. PLUGIN and GPU-TESTS may be empty. Beside ours go the
# third-party libraries that they need, but for those of every Linux (glibc, libstdc++, libgcc_s) and those of CUDA,
# which come with the driver and cuDNN; and their licences, from the packages that they come from.
set -eu
bundle=$1 linked=$2 version=$3 plugin=$4 gpu=$5
shift 5
cd "$(dirname "$0")/.."
most=60         # MB of the archive

rm -rf "$bundle" "$bundle.tar.gz"
mkdir -p "$bundle"/{bin,lib/pkgconfig,include,licences,tests/cpu,tests/scripts/gpu,tests/scripts/check}

# ---- Ours
cp "$linked"/bin/usplit "$bundle/bin/"
cp -P "$linked"/lib/libusplit.so* "$bundle/lib/"
cp include/usplit.h "$bundle/include/"
cp LICENSE "$bundle/licences/libusplit"
cp LICENSE CHANGELOG.md "$bundle/"
cp "$linked"/tests/test_* "$linked"/tests/parity "$bundle/tests/cpu/"
cp test/check/run_tests "$bundle/tests/scripts/check/"
cp test/gpu/*.sh "$bundle/tests/scripts/gpu/"
cp tools/run-tests.sh "$bundle/"
if [ $# -gt 0 ]; then
    mkdir "$bundle/tests/fixtures"
    cp "$@" "$bundle/tests/fixtures/"
fi
if [ -n "$plugin" ]; then
    cp "$plugin" "$bundle/lib/"
    mkdir "$bundle/tests/gpu"
    for program in "$gpu"/*; do
        if [ -L "$program" ]; then      # one program has them all
            cp -P "$program" "$bundle/tests/gpu/"
        elif [ -f "$program" ] && [ -x "$program" ]; then
            strip -o "$bundle/tests/gpu/${program##*/}" "$program"
        fi
    done
fi
# pcfiledir is the folder of the file itself.
cat > "$bundle/lib/pkgconfig/usplit.pc" <<END
prefix=\${pcfiledir}/../..
libdir=\${prefix}/lib
includedir=\${prefix}/include

Name: usplit
Description: Image splitting for fluorescence microscopy
Version: $version
Libs: -L\${libdir} -lusplit
Cflags: -I\${includedir}
END

# ---- Third parties
system='linux-vdso|ld-linux|libc\.so|libm\.so|libmvec\.so|libpthread\.so|libdl\.so|librt\.so|libresolv\.so|libstdc\+\+\.so|libgcc_s\.so'
cuda='libcuda\.so|libcudart|libcudnn|libcublas|libnv'
needed=$(ldd "$bundle"/bin/usplit "$bundle"/lib/*.so* "$bundle"/tests/cpu/* | awk '$2 == "=>" { print $1, $3 }' | sort -u |
    grep -Ev "^($system|$cuda|libusplit)" || true)
if echo "$needed" | grep -q ' not$'; then
    echo "bundle: not found here: $(echo "$needed" | grep ' not$')"
    exit 1
fi
echo "$needed" | while read -r name path; do
    real=$(readlink -f "$path")
    cp "$real" "$bundle/lib/$name"
    chmod 755 "$bundle/lib/$name"
    # The package under whichever of its names dpkg knows the file.
    package=''
    for known in "$path" "$real" "/usr$path" "${real#/usr}"; do
        [ -n "$package" ] || package=$(dpkg-query -S "$known" 2> /dev/null | head -n 1 | cut -d: -f1)
    done
    text=/usr/share/doc/$package/copyright
    if [ -z "$package" ] || [ ! -f "$text" ]; then
        echo "bundle: no licence found for $path (package '$package')"
        exit 1
    fi
    cp "$text" "$bundle/licences/$package"
    echo "$name $package" >> "$bundle/licences/LIBRARIES"
done

# ---- The archive
tar -C "$(dirname "$bundle")" --sort=name --owner=0 --group=0 --numeric-owner -czf "$bundle.tar.gz" "$(basename "$bundle")"
size=$(du -m --apparent-size "$bundle.tar.gz" | cut -f1)
echo "$bundle.tar.gz: $size MB, $(du -sm --apparent-size "$bundle" | cut -f1) MB unpacked:" \
    "$(wc -l < "$bundle/licences/LIBRARIES") third-party libraries, $([ -n "$plugin" ] && echo with || echo without) the CUDA plug-in"
if [ "$size" -gt $most ]; then
    echo "bundle: over $most MB"
    exit 1
fi
