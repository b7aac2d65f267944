//! docs/configuration.md and deploy/deb/agent.toml against the program.

use std::collections::BTreeMap;
use std::path::Path;

use auscult::config::{BrokerOrigin, Config};
use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Key and default of every row of the page's tables.
fn documented() -> BTreeMap<String, String> {
    let page = std::fs::read_to_string(Path::new(ROOT).join("docs/configuration.md")).expect("the page");
    page.lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
            let key = cells.next()?.strip_suffix('`')?;
            Some((key.to_owned(), cells.next()?.to_owned()))
        })
        .collect()
}

/// Key and default of everything that can be set.
fn known() -> BTreeMap<String, Value> {
    let text = "[[machine]]\nid = \"m\"\nsource = { synth = \"fan\" }\n\
                [[notify]]\nkind = \"ntfy\"\nurl = \"https://ntfy.sh/t\"\n";
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), text).expect("a writable file");
    let config = serde_json::to_value(Config::load(file.path()).expect("the least configuration"))
        .expect("a configuration is JSON");
    let mut known = BTreeMap::new();
    for (section, value) in config.as_object().expect("sections") {
        let fields = if value.is_array() { &value[0] } else { value };
        for (key, value) in fields.as_object().expect("keys") {
            known.insert(format!("{section}.{key}"), value.clone());
            if key == "source" {
                let source = value.as_object().expect("keys").iter();
                known.extend(source.map(|(key, value)| (format!("source.{key}"), value.clone())));
            }
        }
    }
    known
}

#[test]
fn the_page_has_every_key_and_no_other() {
    let (documented, known) = (documented(), known());
    let missing: Vec<_> = known.keys().filter(|key| !documented.contains_key(*key)).collect();
    let extra: Vec<_> = documented.keys().filter(|key| !known.contains_key(*key)).collect();
    assert!(missing.is_empty() && extra.is_empty(), "docs/configuration.md lacks {missing:?} and invents {extra:?}");
}

#[test]
fn the_page_tells_the_defaults() {
    let (documented, known) = (documented(), known());
    for (key, default) in documented {
        // What is no value in the program is told in words; the two that name the machine are this test's own.
        let Some(documented) = default.strip_prefix('`').and_then(|documented| documented.strip_suffix('`')) else {
            continue;
        };
        let value = &known[&key];
        if value.is_null() || documented.starts_with('[') && !value.is_array() || key == "source.synth" {
            continue;
        }
        let documented: Value =
            serde_json::from_str(documented).unwrap_or_else(|error| panic!("{key}: {documented}: {error}"));
        assert!(
            documented == *value || documented.as_f64().is_some_and(|documented| value.as_f64() == Some(documented)),
            "{key}: {documented}, not {value}"
        );
    }
}

/// The packages' configuration has no machines: they are added while the agent runs.
#[test]
fn the_packaged_configuration_waits_for_set_up() {
    let config = Config::load(&Path::new(ROOT).join("deploy/deb/agent.toml")).expect("a valid configuration");
    assert_eq!((config.machine.len(), config.mqtt.origin), (0, BrokerOrigin::Default), "the page decides");
    assert!(config.web.listen.0.is_some_and(|listen| listen.ip().is_unspecified()));
}

/// A microphone in a template learns what is normal where it stands: whoever fills in the device alone is not alarmed by a
/// machine that sounds like another one.
#[test]
fn every_microphone_of_the_templates_learns_on_site() {
    for template in ["config/agent.toml", "deploy/deb/agent.toml", "README.md"] {
        let text = std::fs::read_to_string(Path::new(ROOT).join(template)).expect("a template");
        let lines: Vec<_> = text.lines().map(|line| line.trim_start_matches("# ")).collect();
        let tables = lines.split(|line| line.starts_with("[[machine]]") || line.starts_with("```"));
        let with_device: Vec<_> = tables.filter(|table| table.iter().any(|line| line.contains("device = "))).collect();
        assert!(!with_device.is_empty(), "{template}");
        for table in with_device {
            let learns = table.iter().any(|line| line.starts_with("baseline = \"auto\""));
            assert!(
                learns && !table.iter().any(|line| line.starts_with("model = \"fan-a\"")),
                "{template}: {table:#?}"
            );
        }
    }
}
