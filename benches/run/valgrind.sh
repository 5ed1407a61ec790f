#!/usr/bin/env bash
# valgrind of Debian sid, unpacked into target/run/sid. Prints the path of its program and of its tools.
#
# Nothing is installed, and apt's own configuration and lists are not used. What is unpacked is replaced
# after a month. Needs apt (Debian or a derivative) and a network; ECHOWN_DEBIAN_MIRROR replaces
# http://deb.debian.org/debian.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=${CARGO_TARGET_DIR:-$PWD/target}/run
mkdir -p "$here"
here=$(cd "$here" && pwd)
root=$here/sid
mirror=${ECHOWN_DEBIAN_MIRROR:-http://deb.debian.org/debian}
if [ -z "$(find "$root/complete" -mtime -30 2>/dev/null)" ]; then
  rm -rf "$root" "$here/apt"
  mkdir -p "$root" "$here"/apt/{lists/partial,cache/archives/partial,debs}
  touch "$here/apt/status"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror sid main" \
    >"$here/apt/sources.list"
  options=(-o "Dir::Etc::sourcelist=$here/apt/sources.list" -o Dir::Etc::sourceparts=-
    -o "Dir::State::lists=$here/apt/lists" -o "Dir::State::status=$here/apt/status"
    -o "Dir::Cache=$here/apt/cache" -o APT::Sandbox::User=root -o APT::Architecture=amd64)
  # A list that cannot be downloaded is a warning by default.
  apt-get -qq "${options[@]}" -o APT::Update::Error-Mode=any update >&2 ||
    { echo "failed to download the package lists of sid from $mirror" >&2 && exit 1; }
  (cd "$here/apt/debs" && apt-get -qq "${options[@]}" download valgrind >&2) ||
    { echo "failed to download valgrind from $mirror" >&2 && exit 1; }
  dpkg-deb -x "$here"/apt/debs/valgrind_*.deb "$root"
  rm -rf "$here/apt"
  touch "$root/complete"
fi
# Without the shell script around it, which sets nothing that is needed here.
echo "$root/usr/bin/valgrind.bin"
echo "$root/usr/libexec/valgrind"
