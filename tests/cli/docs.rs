//! Every code block of README and docs: commands are typed in as they stand, configuration and messages are read.
//! `<!-- not run by a test: WHY -->` on the line before a block leaves it out, `<!-- tested by FILE -->` names its own test.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use auscult::bundle::manifest::Manifest;
use auscult::config::Config;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A fenced block of a page.
struct Block {
    page: String,
    line: usize,
    language: String,
    text: String,
    /// What the comment before it says.
    mark: Option<String>,
}

impl Block {
    fn name(&self) -> String {
        format!("{}:{}", self.page, self.line)
    }

    /// Left out, or tested elsewhere.
    fn is_marked(&self) -> bool {
        let Some(mark) = &self.mark else { return false };
        if let Some(file) = mark.strip_prefix("tested by ") {
            let test = fs::read_to_string(Path::new(ROOT).join(file));
            let page = Path::new(&self.page).file_name().expect("a page").to_string_lossy().into_owned();
            assert!(test.is_ok_and(|test| test.contains(&page)), "{}: {file} does not read this page", self.name());
            return true;
        }
        assert!(mark.starts_with("not run by a test: "), "{}: <!-- {mark} -->", self.name());
        true
    }
}

fn pages() -> Vec<String> {
    let mut pages = vec![
        "README.md".to_owned(),
        "CONTRIBUTING.md".into(),
        "models/README.md".into(),
        "models/train/README.md".into(),
    ];
    let mut add = |dir: &str, file: &str| {
        for entry in fs::read_dir(Path::new(ROOT).join(dir)).expect("a directory") {
            let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
            let page = if file.is_empty() { format!("{dir}/{name}") } else { format!("{dir}/{name}/{file}") };
            if page.ends_with(".md") && Path::new(ROOT).join(&page).is_file() {
                pages.push(page);
            }
        }
    };
    add("docs", "");
    add("deploy", "README.md");
    pages.sort();
    pages
}

fn blocks(page: &str) -> Vec<Block> {
    let text = fs::read_to_string(Path::new(ROOT).join(page)).expect("a page");
    let mut blocks: Vec<Block> = Vec::new();
    let (mut inside, mut before) = (false, "");
    for (number, line) in text.lines().enumerate() {
        match line.trim_start().strip_prefix("```") {
            Some(language) if !inside => {
                let mark = before.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->"));
                blocks.push(Block {
                    page: page.into(),
                    line: number + 1,
                    language: language.into(),
                    text: String::new(),
                    mark: mark.map(Into::into),
                });
                inside = true;
            }
            Some(_) => inside = false,
            None if inside => writeln!(blocks.last_mut().expect("it began").text, "{line}").expect("a String"),
            None => {}
        }
        before = line.trim();
    }
    assert!(!inside, "{page}: a block without end");
    blocks
}

/// Types in one page's commands, in a plant of their own.
fn type_in(page: &str) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut count = 0;
    for (number, block) in blocks(page).iter().enumerate() {
        if block.language == "sh" && !block.is_marked() {
            let file = dir.path().join(format!("{number:02}.sh"));
            fs::write(file, format!("# {}\n{}", block.name(), block.text)).expect("a writable file");
            count += 1;
        }
    }
    if count == 0 {
        return;
    }
    let run = Command::new("unshare")
        .args(["--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child"])
        .args([Path::new(ROOT).join("tests/docs/plant.sh"), ROOT.into(), env!("CARGO_BIN_EXE_auscult").into()])
        .arg(dir.path())
        .output()
        .expect("unshare starts");
    let printed = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (printed(&run.stdout), printed(&run.stderr));
    println!("{stdout}");
    assert!(run.status.success(), "{page}\n{stdout}\n{stderr}");
    assert_eq!(stdout.matches("== ").count(), count, "{page}\n{stdout}\n{stderr}");
}

#[test]
fn commands_do_what_the_pages_say() {
    let pages = pages();
    std::thread::scope(|scope| {
        for page in &pages {
            scope.spawn(|| type_in(page));
        }
    });
}

/// README.md's "Try it", as typed in a clone right after `make`: nothing on PATH, no broker, no microphone.
#[test]
fn the_lines_to_try_work_as_typed_in_a_fresh_clone() {
    let clone = tempfile::tempdir().expect("a temporary directory");
    for name in ["models", "examples", "config"] {
        std::os::unix::fs::symlink(Path::new(ROOT).join(name), clone.path().join(name)).expect("a link");
    }
    let release = clone.path().join("target/release");
    fs::create_dir_all(&release).expect("a directory");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_auscult"), release.join("auscult")).expect("a link");
    let block = blocks("README.md").into_iter().find(|block| block.text.contains("examples/ill.flac"));
    let text = block.expect("lines to try").text;
    let mut lines = text.lines();
    let path = lines.next().expect("a first line");
    let mut tried = 0;
    for line in lines {
        let is_agent = line.contains("auscult run ");
        // The agent is stopped as a person stops it, once it has judged a window.
        let script = match is_agent {
            false => format!("{path}\n{line}"),
            true => format!(
                "{path}\n{line} >&2 2>log & until grep -q 'windows are judged' log; do sleep 0.1; kill -0 $! || exit 9; done\n\
                 kill -INT $!; wait $!",
                line = line.split('#').next().unwrap_or(line)
            ),
        };
        let mut command = Command::new("timeout");
        command.args(["120", "bash", "-m", "-c", &script]).current_dir(clone.path()).env("PATH", "/usr/bin:/bin");
        command.env("AUSCULT__WEB__LISTEN", "none");
        let run = command.output().expect("bash starts");
        let printed = [run.stdout, run.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).join("\n");
        assert!(
            run.status.success(),
            "{line}\n{printed}\n{}",
            fs::read_to_string(clone.path().join("log")).unwrap_or_default()
        );
        if line.contains(" score ") {
            let of = |name: &str, verdict: &str| {
                printed.lines().filter(|row| row.contains(name) && row.contains(verdict)).count()
            };
            assert_eq!((of("healthy.flac", "normal"), of("ill.flac", "anomalous")), (2, 2), "{printed}");
        }
        tried += 1;
    }
    assert_eq!(tried, 5);
}

#[test]
fn configuration_and_messages_are_valid() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let schemas = crate::common::broker::Schemas::new();
    let mut seen = (0, 0);
    for block in pages().iter().flat_map(|page| blocks(page)) {
        match block.language.as_str() {
            _ if block.is_marked() => {}
            "toml" if block.text.contains("[files]") => {
                let text = block.text.replace("\"...\"", &format!("\"{}\"", "0".repeat(64)));
                Manifest::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{}: {error}", block.name()));
                seen.0 += 1;
            }
            "toml" => {
                let mut text = block.text.clone();
                if !text.contains("[[machine]]") {
                    text += "[[machine]]\nid = \"m\"\nsource = { synth = \"fan\" }\n";
                }
                let file: PathBuf = dir.path().join("agent.toml");
                fs::write(&file, text).expect("a writable file");
                Config::load(&file).unwrap_or_else(|error| panic!("{}: {error}", block.name()));
                seen.0 += 1;
            }
            "json" => {
                let schema = if block.text.contains("\"status\"") { "reply" } else { "control" };
                let fault = schemas.fault_as(schema, block.text.as_bytes());
                assert_eq!(fault, None, "{}", block.name());
                seen.1 += 1;
            }
            "sh" | "" => {}
            other => panic!("{}: what to do with {other}?", block.name()),
        }
    }
    assert!(seen.0 >= 3 && seen.1 >= 2, "{seen:?}");
}

#[test]
fn every_event_error_and_reason_is_documented() {
    let page = |name: &str| fs::read_to_string(Path::new(ROOT).join("docs").join(name)).expect("a page");
    let schemas = auscult::mqtt::payload::schemas();
    let words = |payload: &str, name: &str| -> Vec<String> {
        let schema = &schemas.iter().find(|(found, _)| *found == payload).expect("a payload").1;
        let kinds = schema.as_value()["$defs"][name]["oneOf"].as_array().into_iter().flatten();
        let words =
            kinds.flat_map(|kind| kind["enum"].as_array().cloned().unwrap_or_else(|| vec![kind["const"].clone()]));
        words.map(|word| word.as_str().expect("a word").to_owned()).collect()
    };
    for (payload, name, pages) in [
        ("event", "EventKind", page("topics.md")),
        ("reply", "ErrorCode", page("retuning.md")),
        ("verdict", "Reason", page("audio.md") + &page("alarms.md") + &page("troubleshooting.md") + &page("topics.md")),
    ] {
        let words = words(payload, name);
        assert!(words.len() > 5, "{payload}: {words:?}");
        let missing: Vec<_> = words.iter().filter(|word| !pages.contains(&format!("`{word}`"))).collect();
        assert!(missing.is_empty(), "{payload}: {missing:?} are nowhere in the docs");
    }
}

/// What a payload's schema calls its fields, those of what is inside it too.
fn fields(schema: &serde_json::Value, found: &mut BTreeSet<String>) {
    match schema {
        serde_json::Value::Object(entries) => {
            let properties = entries.get("properties").and_then(serde_json::Value::as_object);
            found.extend(properties.into_iter().flat_map(|named| named.keys().cloned()));
            entries.values().for_each(|inner| fields(inner, found));
        }
        serde_json::Value::Array(entries) => entries.iter().for_each(|inner| fields(inner, found)),
        _ => {}
    }
}

#[test]
fn every_field_is_documented_beside_its_topic() {
    let page = fs::read_to_string(Path::new(ROOT).join("docs/topics.md")).expect("a page");
    let schemas = auscult::mqtt::payload::schemas();
    for payload in ["status", "info", "health", "verdict", "alarm", "settings", "event"] {
        let schema = &schemas.iter().find(|(found, _)| *found == payload).expect("a payload").1;
        let mut named = BTreeSet::new();
        fields(schema.as_value(), &mut named);
        assert!(named.len() > 4, "{payload}: {named:?}");
        named.retain(|field| !page.contains(&format!("`{field}`")));
        assert!(named.is_empty(), "{payload}: {named:?} are not in docs/topics.md");
    }
}
