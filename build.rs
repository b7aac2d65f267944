//! Says how the program is linked.

use std::env::var;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = |key: &str| var(format!("CARGO_CFG_TARGET_{key}")).unwrap_or_default();
    let is_pc = [("OS", "linux"), ("ENV", "gnu"), ("ARCH", "x86_64")].iter().all(|(key, value)| target(key) == *value);
    // Relocations in a tenth of the room: 2.5 MB that no start reads. Debian 12's C library is the first that takes them, and its
    // linker makes them for this processor alone.
    if is_pc && var("HOST").ok() == var("TARGET").ok() && libc_version().is_some_and(|version| version >= (2, 36)) {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// Of this machine's C library: what is built here runs with no older one than that by itself.
fn libc_version() -> Option<(u32, u32)> {
    let said = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let said = String::from_utf8(said.stdout).ok()?;
    let (major, minor) = said.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
