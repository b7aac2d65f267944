#!/usr/bin/env bash
# Builds the Debian package: target/debian/auscult_VERSION_ARCH.deb, and prints its path.
# PROFILE=release packs the tests' build as it lies there, instead of building the packages' own: to try the package only.
# TARGET=aarch64-unknown-linux-gnu packs what was cross-built for it; see arm64.sh.
set -euo pipefail
cd "$(dirname "$0")/../.."
profile=${PROFILE:-dist}
target=${TARGET:-}
tools=target/tools

if ! [ -x $tools/bin/cargo-deb ]; then
  cargo install --quiet --locked --root $tools --no-default-features cargo-deb@3.8.0
fi
if [ -z "$target" ]; then
  # As users get it: without the demo's broker.
  [ "$profile" = release ] || cargo build --profile "$profile" --no-default-features --features web
  program=target/$profile/auscult
else
  program="qemu-aarch64-static -L / target/$target/$profile/auscult"
fi
rm -rf target/package
$program generate target/package
PATH=$PWD/$tools/bin:$PATH cargo deb --quiet --no-build ${target:+--no-strip} --profile "$profile" ${target:+--target "$target"} \
  --output target/debian/
ls -t target/debian/auscult_*.deb | head -1
