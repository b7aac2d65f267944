//! Bundles: the real one as it is, and what is wrong with others.

mod common;

use auscult::bundle::Bundle;

#[test]
fn the_real_bundle_loads_unmodified() {
    let Some(shared) = common::shared() else { return };
    let bundle = Bundle::read(&shared.join("escoita-bundle")).expect("a valid bundle");
    let found: Vec<_> = bundle.machines.iter().map(|m| (m.name.as_str(), m.index, m.bank.len())).collect();
    assert_eq!(
        found,
        [("id_00", 0, 2856), ("id_02", 1, 2925), ("id_04", 2, 3030), ("id_06", 3, 2950), ("id_08", 4, 320)]
    );
    let thresholds: Vec<_> = bundle.machines.iter().map(|m| m.threshold.expect("a threshold")).collect();
    for (threshold, expected) in thresholds.iter().zip([0.142695, 0.174972, 0.170548, 0.234855, 0.309586]) {
        assert!((threshold - expected).abs() < 1e-5, "{thresholds:?}");
    }
    assert_eq!(bundle.name, "escoita-bundle");
    assert_eq!(bundle.version, bundle.digest[..12]);
    assert!(bundle.machine("id_09").expect_err("no such machine").to_string().contains("id_08"));
}
