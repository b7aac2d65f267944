#!/usr/bin/env bash
# Installs what building and testing need and this machine lacks. Debian and Raspberry Pi OS; uses sudo where needed.
# Usage: tests/setup.sh [build|test|heavy|train]   build: what `cargo build` needs; test (default): the test rig as well; heavy: and
# what the heavy tests need beyond it; train: the Python environment of models/train, in target/train-venv.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/apt.sh
what=${1:-test}
rig=$([[ $what = test || $what = heavy ]] && echo yes || echo no)

declare -A provided_by=(
  [/usr/include/alsa/asoundlib.h]=libasound2-dev
  [pkg-config]=pkg-config
  [cc]=build-essential
)
if [ $rig = yes ]; then
  provided_by+=(
    [pulseaudio]=pulseaudio [pactl]=pulseaudio-utils [sox]=sox [arecord]=alsa-utils
    [mosquitto]=mosquitto [mosquitto_pub]=mosquitto-clients [nats-server]=nats-server [rabbitmq-server]=rabbitmq-server [openssl]=openssl [minisign]=minisign
    [psql]=postgresql-client [/usr/lib/postgresql]=postgresql
    [python3]=python3 [unzip]=unzip [tmux]=tmux [jq]=jq [ip]=iproute2 [script]=bsdutils
    ["/usr/lib/$(uname -m)-linux-gnu/faketime/libfaketime.so.1"]=libfaketime
    ["/usr/lib/$(uname -m)-linux-gnu/alsa-lib/libasound_module_pcm_pulse.so"]=libasound2-plugins
  )
fi
missing=()
for need in "${!provided_by[@]}"; do
  case $need in
    /*) [ -e "$need" ] || missing+=("${provided_by[$need]}") ;;
    *) PATH=$PATH:/usr/sbin:/sbin command -v "$need" >/dev/null || missing+=("${provided_by[$need]}") ;;
  esac
done
[ ${#missing[@]} = 0 ] || apt_install "${missing[@]}"

# LiteRT's library comes in a PyPI wheel; the tests compare both engines. ARCH=aarch64 fetches that of the Pi to run under qemu.
arch=${ARCH:-$(uname -m)}
if [ $rig = yes ] && [ ! -e "target/litert/$arch/libLiteRt.so" ]; then
  case $arch in aarch64) version=2.1.6 tag=manylinux_2_27_aarch64 ;; *) version=2.3.0 tag= ;; esac
  if ! python3 -m pip --version >/dev/null 2>&1; then
    apt_install python3-pip
  fi
  wheels=$(mktemp -d)
  trap 'rm -rf "$wheels"' EXIT
  echo "fetching LiteRT $version"
  python3 -m pip download -q --no-deps --only-binary :all: ${tag:+--platform "$tag"} -d "$wheels" "ai-edge-litert==$version"
  mkdir -p "target/litert/$arch"
  unzip -q -o -j "$wheels"/*.whl '*libLiteRt.so' -d "target/litert/$arch"
fi

[ "$what" != heavy ] || . tests/nats.sh

if [ "$what" = train ] && ! cmp -s models/train/requirements.txt target/train-venv/requirements.txt; then
  if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    apt_install python3-venv
  fi
  echo "making target/train-venv"
  python3 -m venv --clear target/train-venv
  target/train-venv/bin/pip install -q --disable-pip-version-check -r models/train/requirements.txt
  cp models/train/requirements.txt target/train-venv/
fi
