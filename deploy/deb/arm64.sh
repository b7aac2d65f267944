#!/usr/bin/env bash
# Cross-builds for arm64 on Debian 12 (amd64), runs the golden tests under qemu as three of the Pi's processors, and packs.
# It takes a quarter of an hour of two cores. CPUS="cortex-a72" tests fewer processors.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=aarch64-unknown-linux-gnu
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

if ! [ -e /usr/lib/aarch64-linux-gnu/pkgconfig/alsa.pc ] || ! command -v qemu-aarch64-static >/dev/null; then
  as_root dpkg --add-architecture arm64
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends rustc-web cargo-web \
    libstd-rust-web-dev:arm64 libasound2-dev:arm64 gcc-aarch64-linux-gnu g++-aarch64-linux-gnu qemu-user-static >/dev/null
fi
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export PKG_CONFIG_ALLOW_CROSS=1 PKG_CONFIG_LIBDIR=/usr/lib/aarch64-linux-gnu/pkgconfig
export PATH=/usr/bin:$PATH RUSTC=/usr/bin/rustc
cargo=/usr/bin/cargo
$cargo build --target $target --profile dist --no-default-features --features web

# Tests start the program itself, so the kernel must know what to do with it: as systemd-binfmt would set it.
if ! [ -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ] && [ "$(uname -m)" != aarch64 ]; then
  [ -e /proc/sys/fs/binfmt_misc/register ] || as_root mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
  as_root sh -c 'grep -v "^#" /usr/lib/binfmt.d/qemu-aarch64.conf >/proc/sys/fs/binfmt_misc/register'
fi
ARCH=aarch64 tests/setup.sh
for cpu in ${CPUS:-cortex-a53 cortex-a72 cortex-a76}; do
  echo "golden tests as $cpu"
  QEMU_CPU=$cpu QEMU_LD_PREFIX=/ $cargo test --target $target --profile dist --no-default-features --features web --lib --test scoring -- score:: encoder::
  QEMU_CPU=$cpu QEMU_LD_PREFIX=/ $cargo test --target $target --profile dist -p auscult-encoder --lib
done
TARGET=$target deploy/deb/build.sh
