//! The types of the page (`src/web/types.d.ts`) are made from the payloads' schemas and compared here.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use auscult::mqtt::payload::schemas;
use serde_json::{Map, Value};

const FILE: &str = "src/web/types.d.ts";
const HEAD: &str = "// Types of the payloads, made from `auscult schema`: AUSCULT_WRITE=1 cargo test --release --test cli page_types\n\n";

/// Writes the TypeScript of a schema.
fn type_of(schema: &Value) -> String {
    let union = |parts: &[Value]| parts.iter().map(type_of).collect::<Vec<_>>().join(" | ");
    let list = |key: &str| schema[key].as_array().map(Vec::as_slice);
    if let Some(reference) = schema["$ref"].as_str() {
        return reference.rsplit('/').next().unwrap_or("any").to_owned();
    }
    if let Some(parts) = list("oneOf").or(list("anyOf")) {
        return union(parts);
    }
    if let Some(values) = list("enum") {
        return values.iter().map(Value::to_string).collect::<Vec<_>>().join(" | ");
    }
    match &schema["const"] {
        Value::Null => {}
        value => return value.to_string(),
    }
    match &schema["type"] {
        Value::String(name) => named(name, schema),
        Value::Array(names) => {
            let each = names.iter().filter_map(Value::as_str).map(|name| named(name, schema));
            each.collect::<Vec<_>>().join(" | ")
        }
        _ => "any".to_owned(),
    }
}

fn named(name: &str, schema: &Value) -> String {
    match name {
        "integer" | "number" => "number".to_owned(),
        "array" => format!("({})[]", type_of(&schema["items"])),
        "object" => "Record<string, any>".to_owned(),
        other => other.to_owned(),
    }
}

/// The fields of an object, as an interface.
fn interface(name: &str, schema: &Value, fields: &Map<String, Value>) -> String {
    let required: Vec<_> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut text = format!("interface {name} {{\n");
    for (field, of) in fields {
        if let Some(about) = of["description"].as_str() {
            let _ = writeln!(text, "  /** {} */", about.replace('\n', " "));
        }
        let mark = if required.contains(&field.as_str()) { "" } else { "?" };
        let _ = writeln!(text, "  {field}{mark}: {}", type_of(of));
    }
    if schema["additionalProperties"] == true {
        text += "  [more: string]: any\n";
    }
    text + "}\n"
}

fn declaration(name: &str, schema: &Value) -> String {
    match schema["properties"].as_object() {
        Some(fields) => interface(name, schema, fields),
        None => format!("type {name} = {}\n", type_of(schema)),
    }
}

fn types() -> String {
    let mut found = BTreeMap::new();
    for (name, schema) in schemas() {
        let schema = schema.to_value();
        let Some(title) = schema["title"].as_str().filter(|_| !matches!(name, "compat" | "threshold_set")) else {
            continue;
        };
        for (name, schema) in schema["$defs"].as_object().into_iter().flatten() {
            found.insert(name.clone(), declaration(name, schema));
        }
        found.insert(title.to_owned(), declaration(title, &schema));
    }
    HEAD.to_owned() + &found.into_values().collect::<Vec<_>>().join("\n")
}

#[test]
fn the_pages_types_are_those_of_the_payloads() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    let expected = types();
    if std::env::var_os("AUSCULT_WRITE").is_some() {
        std::fs::write(&file, &expected).expect("a writable file");
    }
    let found = std::fs::read_to_string(&file).expect("the page's types");
    assert!(found == expected, "{FILE} is not what the payloads are; {}", HEAD.trim());
}
