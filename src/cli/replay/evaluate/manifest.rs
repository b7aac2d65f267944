//! The list of recordings that an evaluation goes through: a CSV file with one line for each, its columns divided by commas, or,
//! as spreadsheets of many countries write it, by semicolons or tabs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What a recording without a fault is called.
pub const NORMAL: &str = "normal";

/// What a recording is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Learn,
    Test,
}

/// One recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub file: PathBuf,
    /// Empty where the list names no machines.
    pub machine: String,
    /// [`NORMAL`], or the name of a fault.
    pub label: String,
    /// Recordings of one block belong together: one day, one installation, one speed.
    pub block: String,
    pub role: Role,
}

/// Reads a list; files are looked for beside it.
///
/// # Errors
/// What is wrong with it, and in which line.
pub fn read(path: &Path) -> Result<Vec<Row>, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| format!("{}: expected a list in UTF-8, as spreadsheets save it on demand", path.display()))?;
    let beside = path.parent().unwrap_or(Path::new("."));
    parse(&text, beside).map_err(|problem| format!("{}: {problem}", path.display()))
}

fn parse(text: &str, beside: &Path) -> Result<Vec<Row>, String> {
    // Spreadsheets begin a file with a mark of its encoding.
    let text = text.trim_start_matches('\u{feff}');
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).peekable();
    // Some spreadsheets say first by what they divide.
    lines.next_if(|(number, line)| *number == 0 && line.to_lowercase().starts_with("sep="));
    let (_, header) = lines.next().ok_or("expected a line with the names of the columns, found nothing")?;
    let divider = [',', ';', '\t'].into_iter().max_by_key(|divider| fields(header, *divider).len()).unwrap_or(',');
    let names: Vec<String> = fields(header, divider).iter().map(|name| name.to_lowercase()).collect();
    let column = |name: &str| names.iter().position(|known| known == name);
    let needed = |name: &str| column(name).ok_or(format!("expected columns file, label, block and role; no {name}"));
    let (file, label, block, role) = (needed("file")?, needed("label")?, needed("block")?, needed("role")?);
    let machine = column("machine");
    let (mut rows, mut lines_of) = (Vec::new(), BTreeMap::new());
    for (number, line) in lines {
        let fault = |problem: String| format!("line {}: {problem}", number + 1);
        let cells = fields(line, divider);
        if cells.len() != names.len() {
            return Err(fault(format!("expected {} columns, found {}", names.len(), cells.len())));
        }
        for (column, name) in [(file, "file"), (label, "label"), (block, "block"), (role, "role")] {
            if cells[column].is_empty() {
                return Err(fault(format!("{name}: expected something, found nothing")));
            }
        }
        let role = match cells[role].to_lowercase().as_str() {
            "learn" => Role::Learn,
            "test" => Role::Test,
            other => return Err(fault(format!("role: expected learn or test, found {other}"))),
        };
        let is_normal = cells[label].eq_ignore_ascii_case(NORMAL);
        let label = if is_normal { NORMAL.to_owned() } else { cells[label].clone() };
        if role == Role::Learn && label != NORMAL {
            return Err(fault(format!("only what is labelled {NORMAL} can be learned, found {label}")));
        }
        let machine = machine.map_or(String::new(), |column| cells[column].clone());
        let file = beside.join(&cells[file]);
        if file.is_dir() {
            return Err(fault(format!("{}: expected a recording, found a directory", file.display())));
        }
        // However its path is written.
        let same = std::fs::canonicalize(&file).unwrap_or_else(|_| file.clone());
        if let Some(first) = lines_of.insert((machine.clone(), same), number + 1) {
            return Err(fault(format!("{} stands in line {first} already", file.display())));
        }
        rows.push(Row { file, machine, label, block: cells[block].clone(), role });
    }
    for (role, name) in [(Role::Learn, "learn"), (Role::Test, "test")] {
        if !rows.iter().any(|row| row.role == role) {
            return Err(format!("expected recordings whose role is {name}, found none"));
        }
    }
    Ok(rows)
}

/// The cells of one line; those in double quotes may hold the divider.
fn fields(line: &str, divider: char) -> Vec<String> {
    let (mut cells, mut cell, mut quoted) = (Vec::new(), String::new(), false);
    let mut letters = line.trim_end_matches('\r').chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                cell.push('"');
            }
            '"' => quoted = !quoted,
            letter if letter == divider && !quoted => cells.push(std::mem::take(&mut cell)),
            letter => cell.push(letter),
        }
    }
    cells.push(cell);
    cells.iter().map(|cell| cell.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_in_any_order() {
        let text = "role,file,block,label\nlearn,a.wav,monday,normal\n\ntest,\"b, \"\"2\"\".wav\",tuesday,rub\r\n";
        let rows = parse(text, Path::new("/in")).expect("a list");
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].role, rows[0].block.as_str(), rows[0].machine.as_str()), (Role::Learn, "monday", ""));
        assert_eq!((rows[1].file.as_path(), rows[1].label.as_str()), (Path::new("/in/b, \"2\".wav"), "rub"));
    }

    #[test]
    fn spreadsheets_divide_as_they_like_and_begin_words_with_capitals() {
        for divider in [";", "\t"] {
            let text = "sep=;\nFile;Label;Block;Role\na,1.wav;Normal;monday;Learn\n\"b;2.wav\";Rub;tuesday;TEST\n"
                .replace(';', divider);
            let rows = parse(&text, Path::new("/in")).expect("a list");
            assert_eq!((rows[0].file.as_path(), rows[0].label.as_str()), (Path::new("/in/a,1.wav"), NORMAL));
            assert_eq!((rows[0].role, rows[1].role, rows[1].label.as_str()), (Role::Learn, Role::Test, "Rub"));
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let problem = |text: &str| parse(text, Path::new("")).expect_err("no list");
        assert!(problem("file,label,role\n").contains("no block"));
        let head = "file,label,block,role,machine\n";
        assert_eq!(problem(&format!("{head}a,normal,1,train,m")), "line 2: role: expected learn or test, found train");
        assert_eq!(
            problem(&format!("{head}\na,rub,1,learn,m")),
            "line 3: only what is labelled normal can be learned, found rub"
        );
        assert_eq!(problem(&format!("{head}a,normal,1,learn")), "line 2: expected 5 columns, found 4");
        let twice = problem(&format!("{head}a,normal,1,learn,m\na,normal,1,test,m"));
        assert_eq!(twice, "line 3: a stands in line 2 already");
        for (line, name) in
            [(",rub,1,test,", "file"), ("a,,1,test,", "label"), ("a,rub,,test,", "block"), ("a,rub,1,,", "role")]
        {
            assert_eq!(problem(&format!("{head}{line}")), format!("line 2: {name}: expected something, found nothing"));
        }
        assert_eq!(problem(&format!("{head}/,rub,1,test,m")), "line 2: /: expected a recording, found a directory");
        assert_eq!(problem(head), "expected recordings whose role is learn, found none");
        assert_eq!(problem(&format!("{head}a,normal,1,learn,m")), "expected recordings whose role is test, found none");
    }
}
