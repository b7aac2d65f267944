#!/usr/bin/env bash
# Agents in a real Home Assistant: installs one from PyPI and runs check.py on it. As root.
# Usage: [HOME_ASSISTANT=VERSION] tests/home-assistant/check.sh [AUSCULT]
#
# Home Assistant wants a newer Python than Debian 12 has, so it lives in a Debian 13 root, target/home-assistant, made once.
# 2026.2 is the last that runs on that root's Python 3.13.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/apt.sh
version=${HOME_ASSISTANT:-2026.2.3}
auscult=$(realpath "${1:-target/release/auscult}")
die() { echo "FAILED: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || die "debootstrap and chroot need root"
[ -x "$auscult" ] || die "no program $auscult"

declare -A provided_by=([debootstrap]=debootstrap [mosquitto]=mosquitto [mosquitto_sub]=mosquitto-clients [python3]=python3)
missing=()
for need in "${!provided_by[@]}"; do
  PATH=$PATH:/usr/sbin command -v "$need" >/dev/null || missing+=("${provided_by[$need]}")
done
# The keyring too: an old one does not know Debian 13.
[ ${#missing[@]} = 0 ] || apt_install debian-archive-keyring "${missing[@]}"

# What is installed is known by a file that is made last.
root=target/home-assistant/root
certificates=/etc/ssl/certs/ca-certificates.crt
log=target/home-assistant/install.log
quietly() { "$@" >>"$log" 2>&1 || { tail -30 "$log"; die "$*"; }; }
inside() { quietly env -u PIP_FIND_LINKS PIP_CERT=$certificates chroot "$root" "$@"; }
if [ ! -e "$root/debian-13" ]; then
  echo "making a Debian 13 root"
  rm -rf --one-file-system "$root"
  mkdir -p "$root"
  : >"$log"
  # In a mount namespace of its own: whatever it mounts ends with it.
  quietly unshare --mount debootstrap --variant=minbase --include=ca-certificates,gcc,libc6-dev,python3-dev,python3-venv trixie "$root"
  inside apt-get clean
  touch "$root/debian-13"
fi
# It reaches and trusts what this machine does.
cp /etc/resolv.conf "$root/etc/"
[ ! -e $certificates ] || cp $certificates "$root$certificates"
venv=/opt/home-assistant-$version
if [ ! -e "$root$venv/installed" ]; then
  echo "installing Home Assistant $version"
  inside python3 -m venv --clear "$venv"
  inside "$venv/bin/pip" install --no-cache-dir --no-deps "homeassistant==$version"
  constraints=$(cd "$root" && echo "opt/home-assistant-$version"/lib/python3*/site-packages/homeassistant/package_constraints.txt)
  # What the versions of 2024 left open has since moved on.
  [[ $version != 2024.* ]] || also="josepy<2"
  inside "$venv/bin/pip" install --no-cache-dir --constraint "/$constraints" "homeassistant==$version" ${also:+"$also"}
  touch "$root$venv/installed"
fi

exec python3 tests/home-assistant/check.py "$auscult" "$root" "$venv"
