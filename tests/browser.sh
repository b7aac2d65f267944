# Sourced by the set-ups of the browser tests, in the project's root: Debian's Chromium and npm.
. tests/apt.sh
missing=()
command -v chromium >/dev/null || missing+=(chromium fonts-dejavu-core)
command -v npm >/dev/null || missing+=(nodejs npm)
[ ${#missing[@]} = 0 ] || apt_install "${missing[@]}"
