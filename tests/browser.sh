# Sourced by the set-ups of the browser tests, in the project's root: Debian's Chromium, and npm's packages.
. tests/npm.sh
command -v chromium >/dev/null || apt_install chromium fonts-dejavu-core
