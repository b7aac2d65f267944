//! `make demo` and `make test` build the same crates with the same features: whoever runs one after the other builds each
//! once. What a test's crate switches on in one of the agent's belongs into the feature `one-build`.

use std::collections::BTreeSet;
use std::process::Command;

/// Crates with their features, of these kinds of dependencies.
fn built(edges: &str) -> BTreeSet<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["tree", "--locked", "--prefix", "none", "--format", "{p} [{f}]", "--edges", edges]);
    let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().map(|line| line.trim_end_matches(" (*)").to_owned()).collect()
}

#[test]
fn the_tests_crates_change_none_of_the_agents() {
    let (agent, with_tests) = (built("no-dev"), built("normal,build,dev"));
    assert!(agent.len() > 100 && with_tests.len() > agent.len(), "{} of {}", agent.len(), with_tests.len());
    let changed: Vec<_> = agent.difference(&with_tests).collect();
    assert!(changed.is_empty(), "built twice, with other features for the tests: {changed:#?}");
}
