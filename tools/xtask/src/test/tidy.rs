//! Tidiness that can be counted: lengths of files and functions, and documents that are printed from
//! code.

use super::step::Outcome;
use crate::cargo;
use crate::error::TaskError;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines of one source file. The aim is 400.
const FILE_LINES_MAX: usize = 500;

/// In README.md, around the table that `ipamd --print-config-table` prints.
const TABLE_BEGIN: &str = "<!-- config-table:begin -->";
const TABLE_END: &str = "<!-- config-table:end -->";

/// Lengths, executable bits, and marks of unfinished work.
pub(super) fn check() -> Result<Outcome, TaskError> {
    let mut outcome = Outcome::default();
    let root = cargo::root();
    for file in tracked(&root)? {
        let Some(kind) = file.extension() else {
            continue;
        };
        if kind != "rs" {
            continue;
        }
        let path = root.join(&file);
        // Deleted in the working tree and not yet in the index.
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        for problem in problems(&text) {
            outcome.count(Some(format!("{}: {problem}", file.display())));
        }
        outcome.count(None);
    }
    Ok(outcome)
}

/// What is wrong with one source file.
fn problems(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let lines = text.lines().count() - lines_of_mistakes(text);
    if lines > FILE_LINES_MAX && !text.contains("@generated") {
        problems.push(format!("{lines} lines; at most {FILE_LINES_MAX}"));
    }
    let unfinished = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("X", "XX:"),
    ];
    for (n, line) in text.lines().enumerate() {
        if let Some(mark) = unfinished.iter().find(|mark| line.contains(**mark)) {
            problems.push(format!(
                "line {}: {mark}: unfinished work is an issue, not a comment",
                n + 1
            ));
        }
    }
    problems
}

/// A deliberate mistake that does not fit into one line has four that are not the file's own: its beginning, its
/// name, what is wrong, and its end.
fn lines_of_mistakes(text: &str) -> usize {
    let begins = |line: &&str| line.ends_with(concat!("mutant", "!("));
    4 * text.lines().filter(begins).count()
}

fn tracked(root: &Path) -> Result<Vec<PathBuf>, TaskError> {
    let mut git = Command::new("git");
    git.arg("-C")
        .arg(root)
        .args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    match cargo::output(git) {
        Ok(list) => Ok(list.lines().map(PathBuf::from).collect()),
        // A tree without git (an unpacked archive) or one that git does not trust to this user.
        Err(_) => walk(root, Path::new("")),
    }
}

fn walk(root: &Path, below: &Path) -> Result<Vec<PathBuf>, TaskError> {
    let dir = root.join(below);
    let mut files = Vec::new();
    let entries =
        fs::read_dir(&dir).map_err(TaskError::io(format!("reading {}", dir.display())))?;
    for entry in entries.filter_map(Result::ok) {
        let path = below.join(entry.file_name());
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && !hidden && entry.file_name() != "target" => {
                files.extend(walk(root, &path)?);
            }
            Ok(kind) if kind.is_file() => files.push(path),
            _ => {}
        }
    }
    Ok(files)
}

/// The README's configuration table is what the daemon prints.
pub(super) fn readme(daemon: &Path) -> Result<Outcome, TaskError> {
    let mut print = Command::new(daemon);
    print.arg("--print-config-table");
    let printed = cargo::output(print)?;
    let file = cargo::root().join("README.md");
    let readme =
        fs::read_to_string(&file).map_err(TaskError::io(format!("reading {}", file.display())))?;
    let mut outcome = Outcome::default();
    outcome.count(table_problem(&readme, &printed));
    Ok(outcome)
}

fn table_problem(readme: &str, printed: &str) -> Option<String> {
    let between = readme
        .split_once(TABLE_BEGIN)
        .and_then(|(_, rest)| rest.split_once(TABLE_END));
    let Some((table, _)) = between else {
        return Some(format!(
            "README.md has no table between {TABLE_BEGIN} and {TABLE_END}"
        ));
    };
    (table.trim() != printed.trim()).then(|| {
        "README.md's configuration table is not what `ipamd --print-config-table` prints".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_files_and_marks_are_found() {
        assert!(problems(&"x\n".repeat(FILE_LINES_MAX)).is_empty());
        assert_eq!(problems(&"x\n".repeat(FILE_LINES_MAX + 1)).len(), 1);
        let mistake = "    mutant!(\n    \"a/b\",\n    right,\n    wrong,\n    )\n";
        let long = |own: usize| "x\n".repeat(own - 1) + mistake;
        assert!(problems(&long(FILE_LINES_MAX)).is_empty());
        assert_eq!(problems(&long(FILE_LINES_MAX + 1)).len(), 1);
        assert_eq!(problems(concat!("fn a() {} // TO", "DO later\n")).len(), 1);
    }

    #[test]
    fn a_table_that_differs_is_found() {
        let readme = format!("a\n{TABLE_BEGIN}\n| x |\n{TABLE_END}\nb");
        assert_eq!(table_problem(&readme, "| x |\n"), None);
        assert!(table_problem(&readme, "| y |\n").is_some());
        assert!(table_problem("no table", "| x |").is_some());
    }
}
