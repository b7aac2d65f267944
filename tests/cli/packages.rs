//! The Debian package as apt and as a fleet's owner handle it; see the scripts for what is looked at.

use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Of the program that the tests run, not of the slower build that users get.
static PACKAGE: LazyLock<PathBuf> = LazyLock::new(|| {
    let mut build = Command::new("deploy/deb/build.sh");
    // tests/run.sh sets it for this process; Cargo would build everything anew with it.
    build.env_remove("RUSTC_BOOTSTRAP");
    let built = build.env("PROFILE", "release").current_dir(ROOT).output().expect("the script starts");
    let printed = String::from_utf8_lossy(&built.stdout);
    assert!(built.status.success(), "{printed}{}", String::from_utf8_lossy(&built.stderr));
    PathBuf::from(ROOT).join(printed.lines().last().expect("the package's path"))
});

/// Runs a script on the package, as root; it ends with an error where anything is wrong.
fn passes(script: &str, steps: usize) {
    let root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n");
    let mut command = if root { Command::new("env") } else { Command::new("sudo") };
    let run = command.arg(script).arg(&*PACKAGE).current_dir(ROOT).output().expect("the script starts");
    let printed = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{printed}{}", String::from_utf8_lossy(&run.stderr));
    assert_eq!(printed.lines().filter(|line| line.starts_with("ok ")).count(), steps, "{printed}");
}

#[test]
#[ignore = "heavy: minutes, a Debian root"]
fn it_installs_upgrades_and_leaves_nothing() {
    passes("tests/deb/check.sh", 5);
}

#[test]
#[ignore = "heavy: minutes, a Debian with systemd in a container"]
fn a_pi_is_provisioned_and_its_service_holds() {
    passes("tests/deb/pi.sh", 7);
}
