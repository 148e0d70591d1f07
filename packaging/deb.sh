#!/bin/sh
# Makes build/firstspike_VERSION_ARCH.deb of what install.sh installs: for the Python of this system, which it depends on.
#
#   packaging/deb.sh BUILD_PYTHON
set -eu
cd "$(dirname "$0")/.."
for tool in dpkg-deb dpkg-shlibdeps dpkg-architecture fakeroot; do
    command -v $tool >/dev/null || { echo "deb: '$tool' was not found: on Debian, apt-get install dpkg-dev fakeroot" >&2; exit 69; }
done
: "${PYTHON:=/usr/bin/python3}"
root=$PWD/build/deb
rm -rf build/deb build/deb-control
mkdir -p "$root/DEBIAN" build/deb-control/debian
DESTDIR=$root PREFIX=/usr PYTHON=$PYTHON packaging/install.sh "$1"
rm "$root/usr/lib/firstspike/installed"
# Ours alone: what wheels carry was laid out anew by their makers, and stripping can break that.
find "$root/usr/lib/firstspike" -name libfirstspike.so -exec strip --strip-unneeded {} +
gzip -9nf "$root"/usr/share/man/man1/firstspike.1 "$root"/usr/share/man/man5/firstspike.toml.5
install -m 644 packaging/copyright "$root/usr/share/doc/firstspike/copyright"

version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
arch=$(dpkg-architecture -qDEB_HOST_ARCH)
minor=$("$PYTHON" -c 'import sys; print(sys.version_info[1])')
# What the shared objects of all packages need of the system; those that wheels carry inside are theirs.
printf 'Source: firstspike\n\nPackage: firstspike\nArchitecture: any\n' > build/deb-control/debian/control
libraries=$(cd build/deb-control && find "$root/usr/lib/firstspike" -name '*.so*' -type f -exec \
    dpkg-shlibdeps --ignore-missing-info -O {} + 2>/dev/null | sed -n 's/^shlibs:Depends=//p')
: "${libraries:=libc6, libstdc++6}"
cat > "$root/DEBIAN/control" <<CONTROL
Package: firstspike
Version: $version
Architecture: $arch
Maintainer: firstspike developers <firstspike@localhost>
Installed-Size: $(du -sk --exclude=DEBIAN "$root" | cut -f1)
Depends: python3 (>= 3.$minor), python3 (<< 3.$((minor + 1))), $libraries
Recommends: systemd, libusb-1.0-0, udev
Section: science
Priority: optional
Description: edge runtime for event cameras: time-to-first-spike inference
 Reads events from a camera or recordings, classifies windows of them with an
 integer spiking network, and publishes decisions and health over ZeroMQ.
 Accelerators (OpenVINO, Neural Compute Stick 2, TensorRT, Loihi) run in
 processes of their own; without any, a built-in emulator answers.
 .
 The package brings its Python packages in an environment of its own,
 /usr/lib/firstspike.
CONTROL
echo /etc/firstspike/config.toml > "$root/DEBIAN/conffiles"
for script in postinst prerm postrm; do install -m 755 "packaging/$script" "$root/DEBIAN/$script"; done
(cd "$root" && find usr etc -type f -print0 | sort -z | xargs -0 md5sum > DEBIAN/md5sums)
fakeroot dpkg-deb --root-owner-group --build "$root" "build/firstspike_${version}_$arch.deb" >/dev/null
echo "deb: build/firstspike_${version}_$arch.deb: install it with: apt install ./build/firstspike_${version}_$arch.deb"
