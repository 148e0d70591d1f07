#!/bin/sh
# Takes away what install.sh installed. The configuration, what the service keeps and the groups stay.
set -eu
: "${DESTDIR:=}" "${PREFIX:=/usr}"
venv=$DESTDIR$PREFIX/lib/firstspike
if [ ! -f "$venv/installed" ]; then
    echo "uninstall: no $venv/installed: nothing was installed with PREFIX=$PREFIX" >&2
    exit 66
fi
if [ -z "$DESTDIR" ] && [ -d /run/systemd/system ]; then
    systemctl disable --now firstspike.service 2>/dev/null || true
    systemctl stop 'firstspike@*.service' 2>/dev/null || true
fi
sed "s|^|$DESTDIR|" "$venv/installed" | tr '\n' '\0' | xargs -0 rm -f
rm -rf "$venv"
for folder in share/firstspike share/doc/firstspike; do
    if [ -d "$DESTDIR$PREFIX/$folder" ]; then find "$DESTDIR$PREFIX/$folder" -depth -type d -empty -delete; fi
done
if [ -z "$DESTDIR" ] && [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
echo "uninstall: done; kept: the configuration in /etc/firstspike, the service's state in /var/lib/firstspike"
