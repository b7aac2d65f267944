# Sourced by the set-ups: Debian's packages. One at a time, as tests run side by side and `apt-get update` does not wait for others.
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
# apt_install PACKAGE...
apt_install() {
  local target
  target=$(dirname "${BASH_SOURCE[0]}")/../target
  mkdir -p "$target"
  echo "installing $*"
  (
    flock 9
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "$@" >/dev/null
  ) 9>"$target/apt.lock"
}
