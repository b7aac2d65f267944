//! Any bytes as `bundle.toml`: what parses has a front-end for each of its machines.
#![no_main]

use auscult::bundle::Manifest;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(manifest) = Manifest::parse(bytes) {
        for name in manifest.machine.keys() {
            manifest.front_end(Some(name)).expect("checked when it was parsed");
        }
    }
});
