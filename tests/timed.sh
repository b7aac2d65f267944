#!/bin/sh
# Cargo starts each test binary by this: the binary then prints how long each test took. That option of libtest is not
# stable yet, so it wants to be asked like a nightly one.
exec env RUSTC_BOOTSTRAP=1 "$@" -Z unstable-options --report-time
