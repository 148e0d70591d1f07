#!/bin/sh
# Installs firstspike for a whole machine: a virtual environment of its own, models, units, rules, manual, completion.
#
#   packaging/install.sh BUILD_PYTHON      with DESTDIR, PREFIX, PYTHON in the environment
#
# BUILD_PYTHON has pip, scikit-build-core and firstspike (`make setup`); PYTHON is the one that will run it. What is
# installed is listed in PREFIX/lib/firstspike/installed, which `uninstall.sh` reads.
set -eu
cd "$(dirname "$0")/.."
build_python=$1
: "${DESTDIR:=}" "${PREFIX:=/usr}" "${PYTHON:=/usr/bin/python3}"
case $PREFIX in /*) ;; *) echo "install: PREFIX must be an absolute path, not '$PREFIX'" >&2; exit 64 ;; esac
venv=$PREFIX/lib/firstspike
case $PREFIX in /usr|/usr/local) etc=/etc ;; *) etc=$PREFIX/etc ;; esac
# udev, sysusers, tmpfiles and units are read from these places, whatever the prefix.
case $PREFIX in /usr) lib=/usr/lib ;; *) lib=/usr/local/lib ;; esac
if [ "$PREFIX" != /usr ]; then units=/etc/systemd/system rules=/etc/udev/rules.d; else units=$lib/systemd/system rules=$lib/udev/rules.d; fi
list=$(mktemp); trap 'rm -f "$list"' EXIT

# put FILE PLACE [MODE]
put() {
    install -D -m "${3:-644}" "$1" "$DESTDIR$2"
    echo "$2" >> "$list"
}

"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "install: $PYTHON is older than 3.11: name another: make install PYTHON=…" >&2; exit 69; }
echo "install: building the wheel"
mkdir -p build/wheel
rm -f build/wheel/firstspike-*.whl
# CMake would take DESTDIR for its own.
env -u DESTDIR "$build_python" -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir build/wheel .
echo "install: a virtual environment in $DESTDIR$venv"
rm -rf "$DESTDIR${venv:?}"
"$PYTHON" -m venv --without-pip "$DESTDIR$venv"
# A machine with the service may have a camera.
if [ -z "${EXTRAS:-}" ] && grep -q '^camera = ' pyproject.toml; then EXTRAS=camera; fi
"$build_python" -m pip --python "$DESTDIR$venv/bin/python3" install --quiet --disable-pip-version-check --no-compile \
    --no-warn-script-location --constraint constraints.txt "$(echo build/wheel/firstspike-*.whl)${EXTRAS:+[$EXTRAS]}"
# Scripts know the place where they will lie; those of libraries are nobody's business.
find "$DESTDIR$venv/bin" -type f ! -name firstspike -delete
rm -f "$DESTDIR$venv/lib64"
printf '#!%s/bin/python3 -I\nfrom firstspike.cli import entry\n\nentry()\n' "$venv" > "$DESTDIR$venv/bin/firstspike"
chmod 755 "$DESTDIR$venv/bin/firstspike"
sed -i "s|$DESTDIR$venv|$venv|g; /^command = /d" "$DESTDIR$venv/pyvenv.cfg"
find "$DESTDIR$venv" -name direct_url.json -delete
"$DESTDIR$venv/bin/python3" -m compileall -q ${DESTDIR:+-s "$DESTDIR"} "$DESTDIR$venv/lib"

install -d "$DESTDIR$PREFIX/bin"
ln -sf ../lib/firstspike/bin/firstspike "$DESTDIR$PREFIX/bin/firstspike"
echo "$PREFIX/bin/firstspike" >> "$list"
for bundle in models/*/bundle.json; do
    for file in "$(dirname "$bundle")"/*; do put "$file" "$PREFIX/share/firstspike/$file"; done
done

sed "s|/usr/bin/firstspike|$PREFIX/bin/firstspike|g; s|/etc/firstspike/|$etc/firstspike/|g" systemd/firstspike.service > build/firstspike.service
put build/firstspike.service "$units/firstspike.service"
# Several daemons: firstspike@NAME runs NAME.toml, with directories of its own.
sed "s|firstspike/config\.toml|firstspike/%i.toml|; s|^\(.*Directory\)=firstspike$|\1=firstspike-%i|; s|%\([SC]\)/firstspike|%\1/firstspike-%i|g
s|^ConfigurationDirectory=.*|ConfigurationDirectory=firstspike|; s|^User=.*|User=firstspike-%i|; s|^Description=.*|Description=firstspike: event camera inference (%i)|" build/firstspike.service > build/firstspike@.service
put build/firstspike@.service "$units/firstspike@.service"
for file in systemd/drop-ins/*.conf; do put "$file" "$PREFIX/share/firstspike/systemd/$(basename "$file")"; done
put systemd/60-firstspike.rules "$rules/60-firstspike.rules"
put systemd/sysusers.conf "$lib/sysusers.d/firstspike.conf"
put systemd/tmpfiles.conf "$lib/tmpfiles.d/firstspike.conf"

source=simulated
[ ! -f runtime/firstspike/sources/camera.py ] || source=camera
sed "s|@source@|$source|" packaging/config.toml > build/config.toml
# A configuration that is there is its owner's.
[ -e "$DESTDIR$etc/firstspike/config.toml" ] || install -D -m 644 build/config.toml "$DESTDIR$etc/firstspike/config.toml"
install -d "$DESTDIR$etc/firstspike/conf.d"

"$build_python" packaging/manual.py build/manual
put build/manual/firstspike.1 "$PREFIX/share/man/man1/firstspike.1"
put build/manual/firstspike.toml.5 "$PREFIX/share/man/man5/firstspike.toml.5"
put build/manual/firstspike.bash "$PREFIX/share/bash-completion/completions/firstspike"
# As in the checkout, so that their links go on to work.
documents=$PREFIX/share/doc/firstspike
for file in README.md ARCHITECTURE.md CONTRIBUTING.md CHANGELOG.md LICENSE config.toml docs/*.md docs/*/*.md docs/*/*.json; do put "$file" "$documents/$file"; done
for card in models/*/CARD.md; do
    install -d "$DESTDIR$documents/$(dirname "$card")"
    ln -sf "$PREFIX/share/firstspike/$card" "$DESTDIR$documents/$card"
    echo "$documents/$card" >> "$list"
done
install -m 644 "$list" "$DESTDIR$venv/installed"
if [ -z "$DESTDIR" ]; then
    if command -v systemd-sysusers >/dev/null; then systemd-sysusers firstspike.conf; systemd-tmpfiles --create firstspike.conf; fi
    if [ -d /run/systemd/system ]; then
        systemctl daemon-reload
        if command -v udevadm >/dev/null; then
            udevadm control --reload 2>/dev/null || true  # in a container none runs
            udevadm trigger --subsystem-match=usb --subsystem-match=powercap || true
        fi
    fi
    echo "install: done. To start it: systemctl enable --now firstspike; to see what is missing: firstspike doctor"
fi
