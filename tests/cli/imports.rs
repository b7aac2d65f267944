//! The modules of `src/` form floors: each imports only floors below its own. No files import each other in a circle, there
//! and in the crates. docs/architecture.md shows what lies where.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// From the top down. Modules of one floor do not import each other, except the leaves.
const FLOORS: [&[&str]; 10] = [
    &["cli"],
    &["agent"],
    &["web", "notify"],
    &["control"],
    &["monitor"],
    &["config"],
    &["bundle", "mqtt"],
    &["scoring"],
    &["features", "encoder", "audio"],
    LEAVES,
];

/// They import nothing but each other.
const LEAVES: &[&str] = &[
    "archive",
    "backoff",
    "causes",
    "clock",
    "fs",
    "log_tail",
    "secret",
    "sha256",
    "sqlite",
    "state_files",
    "systemd",
    "threads",
    "token_bucket",
    "numbers",
    "validate",
    "window",
];

/// One path to a module of this crate, as it stands in a file.
#[derive(Debug)]
struct Import {
    line: usize,
    /// Full, from the crate's root: `["scoring", "gate", "Gate"]`.
    path: Vec<String>,
}

#[test]
fn imports_run_downward() {
    let sources = Sources::read("src");
    let mut upward = Vec::new();
    for (file, source) in &sources.0 {
        let Some(from) = source.module.first() else { continue };
        for import in &source.imports {
            let (Some(mine), Some(theirs)) = (floor(from), floor(&import.path[0])) else {
                upward.push(format!("{}:{}: {} or {from} has no floor", file.display(), import.line, import.path[0]));
                continue;
            };
            let sideways = mine == theirs && *from != import.path[0] && !LEAVES.contains(&from.as_str());
            if mine > theirs || sideways {
                upward.push(format!("{}:{}: {from} imports {}", file.display(), import.line, import.path.join("::")));
            }
        }
    }
    assert!(upward.is_empty(), "{} imports run upward or sideways:\n{}", upward.len(), upward.join("\n"));
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let circles: Vec<String> =
        ["src", "crates/encoder/src", "crates/signal/src"].into_iter().flat_map(circles_in).collect();
    assert!(circles.is_empty(), "{} circles of files:\n{}", circles.len(), circles.join("\n"));
}

fn circles_in(folder: &str) -> Vec<String> {
    let sources = Sources::read(folder);
    let mut edges: BTreeMap<&Path, BTreeMap<&Path, usize>> = BTreeMap::new();
    for (file, source) in &sources.0 {
        for import in &source.imports {
            if let Some(target) = sources.file_of(&import.path)
                && target != file
            {
                edges.entry(file).or_default().entry(target).or_insert(import.line);
            }
        }
    }
    let mut circles = Vec::new();
    let mut done = BTreeSet::new();
    for file in sources.0.keys() {
        find_circle(file, &edges, &mut Vec::new(), &mut done, &mut circles);
    }
    circles
}

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

/// Goes down from `file`; each circle is reported once, with the lines that make it.
fn find_circle<'a>(
    file: &'a Path,
    edges: &BTreeMap<&'a Path, BTreeMap<&'a Path, usize>>,
    way: &mut Vec<&'a Path>,
    done: &mut BTreeSet<&'a Path>,
    circles: &mut Vec<String>,
) {
    if let Some(begin) = way.iter().position(|earlier| *earlier == file) {
        let circle: Vec<_> = way[begin..].iter().copied().chain([file]).collect();
        let step = |pair: &[&Path]| format!("{}:{}", pair[0].display(), edges[pair[0]][pair[1]]);
        circles.push(circle.windows(2).map(step).collect::<Vec<_>>().join(" -> "));
        return;
    }
    if !done.insert(file) {
        return;
    }
    way.push(file);
    for next in edges.get(file).into_iter().flat_map(BTreeMap::keys).copied() {
        find_circle(next, edges, way, done, circles);
    }
    way.pop();
}

struct Source {
    /// `src/scoring/gate/mod.rs` is `["scoring", "gate"]`.
    module: Vec<String>,
    imports: Vec<Import>,
    /// What a re-export stands for.
    reexports: BTreeMap<String, Vec<String>>,
}

struct Sources(BTreeMap<PathBuf, Source>);

impl Sources {
    /// Those of a folder that holds a crate's root.
    fn read(folder: &str) -> Sources {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut files = Vec::new();
        let mut folders = vec![root.join(folder)];
        while let Some(inner) = folders.pop() {
            for entry in fs::read_dir(inner).expect("a folder of sources") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    files.push(path);
                }
            }
        }
        let read = |path: PathBuf| {
            let file = path.strip_prefix(root).expect("a file of ours").to_owned();
            let text = fs::read_to_string(&path).expect("a source");
            let module = module_of(file.strip_prefix(folder).expect("a file of the folder"))?;
            Some((file, parse(module, &text)))
        };
        let sources: BTreeMap<_, _> = files.into_iter().filter_map(read).collect();
        let least = if folder == "src" { 100 } else { 8 };
        assert!(sources.len() >= least, "{} files in {folder}: the walk has gone wrong", sources.len());
        Sources(sources)
    }

    /// The file that defines what a path names: the longest module on it, and through its re-exports.
    fn file_of(&self, path: &[String]) -> Option<&Path> {
        let mut path = path.to_vec();
        for _ in 0..8 {
            let (file, source) = self
                .0
                .iter()
                .filter(|(_, source)| path.starts_with(&source.module))
                .max_by_key(|(_, source)| source.module.len())?;
            let Some(name) = path.get(source.module.len()) else { return Some(file) };
            match source.reexports.get(name) {
                Some(target) => path = [target.as_slice(), &path[source.module.len() + 1..]].concat(),
                None => return Some(file),
            }
        }
        None
    }
}

/// `None` for the roots: the library and the program name everything.
fn module_of(file: &Path) -> Option<Vec<String>> {
    let inner = file.with_extension("");
    let mut parts: Vec<String> = inner.iter().map(|part| part.to_str().expect("UTF-8").to_owned()).collect();
    if parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    (parts != ["lib"] && parts != ["main"]).then_some(parts)
}

fn parse(module: Vec<String>, text: &str) -> Source {
    let code = without_comments_and_texts(text);
    // Tests of a module may look at all that they like; they stand at its end.
    let tests = code.match_indices("#[cfg(test)]\n").find(|(place, head)| {
        let item = code[place + head.len()..].lines().next().unwrap_or_default();
        item.contains("mod ") && item.contains('{')
    });
    let code = &code[..tests.map_or(code.len(), |(place, _)| place)];
    let children = children_of(code);
    let mut source = Source { module: module.clone(), imports: Vec::new(), reexports: BTreeMap::new() };
    let mut rest = String::with_capacity(code.len());
    let mut at = 0;
    // `use` items first; what stays are paths within the code.
    while let Some(found) = next_use(code, at) {
        rest.push_str(&code[at..found.start]);
        rest.extend(code[found.start..found.end].chars().filter(|c| *c == '\n'));
        let line = code[..found.start].matches('\n').count() + 1;
        for path in expand(&code[found.tree..found.end]) {
            let alias = path.last().map(|last| last.rsplit(" as ").next().unwrap_or(last).to_owned());
            let clean: Vec<String> = path.iter().map(|part| part.split(" as ").next().unwrap_or(part).into()).collect();
            let Some(full) = resolve(&module, &children, &clean) else { continue };
            if found.public
                && let Some(alias) = alias
            {
                source.reexports.insert(alias, full.clone());
            }
            source.imports.push(Import { line, path: full });
        }
        at = found.end;
    }
    rest.push_str(&code[at..]);
    for (number, line) in rest.lines().enumerate() {
        for start in ["crate", "super"].into_iter().chain(children.iter().map(String::as_str)) {
            for (place, _) in line.match_indices(&format!("{start}::")) {
                let before = line[..place].chars().next_back();
                let visibility = line[..place].ends_with("pub(in ");
                if visibility || before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | ':' | '$' | '.')) {
                    continue;
                }
                let path: String =
                    line[place..].chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':')).collect();
                let path: Vec<String> = path.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
                if let Some(full) = resolve(&module, &children, &path) {
                    source.imports.push(Import { line: number + 1, path: full });
                }
            }
        }
    }
    // A re-export of a child and a parent's declaration are how a folder shows itself, not an import from below.
    let own = |import: &Import| import.path.len() > module.len() && import.path.starts_with(&module);
    let reexported: Vec<Vec<String>> = source.reexports.values().cloned().collect();
    source.imports.retain(|import| !(own(import) && reexported.contains(&import.path)));
    source
}

struct Use {
    start: usize,
    tree: usize,
    end: usize,
    public: bool,
}

/// The next `use` item at or after `from`.
fn next_use(code: &str, from: usize) -> Option<Use> {
    let mut at = from;
    loop {
        let tree = at + code[at..].find("use ")? + 4;
        let line = code[..tree - 4].rfind('\n').map_or(0, |newline| newline + 1);
        let before = code[line..tree - 4].trim();
        if before.is_empty() || before == "pub" || before.starts_with("pub(") {
            let end = tree + code[tree..].find(';')?;
            return Some(Use { start: line.max(from), tree, end, public: !before.is_empty() });
        }
        at = tree;
    }
}

/// `a::{b, c::{d, self}}` is `a::b`, `a::c::d`, `a::c`.
fn expand(tree: &str) -> Vec<Vec<String>> {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        return vec![tree.split("::").map(|part| part.trim().to_owned()).filter(|part| part != "self").collect()];
    };
    let head: Vec<String> =
        tree[..open].split("::").map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect();
    let inner = &tree[open + 1..tree.rfind('}').unwrap_or(tree.len())];
    let (mut depth, mut begin, mut parts) = (0, 0, Vec::new());
    for (place, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&inner[begin..place]);
                begin = place + 1;
            }
            _ => {}
        }
    }
    parts.push(&inner[begin..]);
    let branches = parts.into_iter().filter(|part| !part.trim().is_empty()).flat_map(expand);
    branches.map(|branch| [head.clone(), branch].concat()).collect()
}

/// The modules that a file declares: `mod child;`.
fn children_of(code: &str) -> Vec<String> {
    let declared = code.lines().filter_map(|line| line.trim().strip_suffix(';')?.rsplit_once("mod "));
    declared
        .filter(|(before, _)| before.is_empty() || before.starts_with("pub"))
        .map(|(_, child)| child.into())
        .collect()
}

/// From the crate's root; `None` for another crate's path.
fn resolve(module: &[String], children: &[String], path: &[String]) -> Option<Vec<String>> {
    let mut base = module.to_vec();
    let mut rest = path;
    match rest.first()?.as_str() {
        child if children.iter().any(|known| known == child) => {
            base.extend(rest.iter().cloned());
            return Some(base);
        }
        "crate" => base.clear(),
        "self" => {}
        "super" => {
            while rest.first().is_some_and(|part| part == "super") {
                base.pop();
                rest = &rest[1..];
            }
            base.extend(rest.iter().cloned());
            return (!base.is_empty()).then_some(base);
        }
        _ => return None,
    }
    base.extend(rest[1..].iter().cloned());
    (!base.is_empty()).then_some(base)
}

/// The code alone, each line where it was.
fn without_comments_and_texts(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let mut before = ' ';
    while let Some(c) = chars.next() {
        match c {
            '/' if chars.peek() == Some(&'/') => {
                while chars.peek().is_some_and(|c| *c != '\n') {
                    chars.next();
                }
            }
            // A raw text ends with a quote and as many hashes as it began with.
            'r' if !before.is_alphanumeric() && before != '_' && matches!(chars.peek(), Some('#' | '"')) => {
                let mut hashes = 0;
                while chars.next_if_eq(&'#').is_some() {
                    hashes += 1;
                }
                if chars.next_if_eq(&'"').is_none() {
                    continue;
                }
                let end: String = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
                let mut raw = String::new();
                for c in chars.by_ref() {
                    raw.push(c);
                    if raw.ends_with(&end) {
                        break;
                    }
                }
                code.extend(raw.chars().filter(|c| *c == '\n'));
            }
            '"' => {
                while let Some(c) = chars.next() {
                    match c {
                        '\\' => code.extend(chars.next().filter(|c| *c == '\n')),
                        '"' => break,
                        '\n' => code.push('\n'),
                        _ => {}
                    }
                }
            }
            '\'' => {
                // A character, not a lifetime.
                let ahead: Vec<char> = chars.clone().take(2).collect();
                if ahead.first() == Some(&'\\') {
                    chars.next();
                    chars.next();
                    while chars.next().is_some_and(|c| c != '\'') {}
                } else if ahead.get(1) == Some(&'\'') {
                    chars.next();
                    chars.next();
                }
            }
            _ => code.push(c),
        }
        before = c;
    }
    code
}

#[test]
fn the_parser_reads_what_is_written() {
    let text = "use super::gate::{Gate, spectrum::{self, Band as B}};\npub use crate::mqtt::topics;\nfn f() {\n    \
                // crate::web::no\n    let x = \"crate::agent::no\"; crate::control::Yes::new('\"');\n    \
                child::work(pub_child::no());\n}\nmod child;\npub(in crate::web) mod other;\n\
                #[cfg(test)]\nmod tests { use crate::cli::no; }\n";
    let source = parse(vec!["scoring".into(), "scorer".into()], text);
    let found: Vec<String> = source.imports.iter().map(|i| format!("{} {}", i.line, i.path.join("::"))).collect();
    assert_eq!(
        found,
        [
            "1 scoring::gate::Gate",
            "1 scoring::gate::spectrum",
            "1 scoring::gate::spectrum::Band",
            "2 mqtt::topics",
            "5 control::Yes::new",
            "6 scoring::scorer::child::work"
        ]
    );
}
