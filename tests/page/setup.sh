#!/usr/bin/env bash
# Installs what drives a browser and checks types into target/page, and Chromium from Debian.
set -euo pipefail
cd "$(dirname "$0")/../.."

missing=()
command -v chromium >/dev/null || missing+=(chromium fonts-dejavu-core)
command -v npm >/dev/null || missing+=(nodejs npm)
if [ ${#missing[@]} -gt 0 ]; then
  echo "installing ${missing[*]}"
  as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# What is installed is known by a copy of the list that is made last.
if ! cmp -s tests/page/package.json target/page/installed.json; then
  echo "installing Playwright, axe and TypeScript"
  mkdir -p target/page
  cp tests/page/package.json target/page/
  npm install --prefix target/page --no-audit --no-fund --no-package-lock --ignore-scripts --loglevel=error
  cp tests/page/package.json target/page/installed.json
fi
