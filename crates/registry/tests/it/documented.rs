//! The table of the specification's sentences names tests that there are.

use std::path::Path;

/// Sections of the table, and the least number of sentences in each.
const SECTIONS: [(&str, usize); 8] = [
    ("Pulling", 15),
    ("Pushing", 30),
    ("Content discovery", 15),
    ("Content management", 7),
    ("Proxies", 4),
    ("Backwards compatibility", 6),
    ("Error codes", 4),
    ("Warnings", 5),
];

#[test]
fn every_sentence_names_a_test_that_there_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = std::fs::read_to_string(root.join("../../docs/distribution.md")).expect("the table");
    let mut rows: Vec<(String, usize)> = Vec::new();
    let mut problems = Vec::new();
    for line in table.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            rows.push((title.to_owned(), 0));
        }
        let Some(cells) = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |")) else { continue };
        let cells: Vec<_> = cells.split(" | ").collect();
        if matches!(cells[0], "Sentence" | "---") {
            continue;
        }
        let [sentence, binds, held] = cells[..] else {
            problems.push(format!("not three cells: {line}"));
            continue;
        };
        if let Some(section) = rows.last_mut() {
            section.1 += 1;
        }
        if !matches!(binds, "client" | "server" | "both") {
            problems.push(format!("binds {binds:?}: {sentence}"));
        }
        problems.extend(unheld(root, held).into_iter().map(|problem| format!("{problem}: {sentence}")));
    }
    for (title, least) in SECTIONS {
        let count = rows.iter().find(|(known, _)| known == title).map_or(0, |(_, count)| *count);
        if count < least {
            problems.push(format!("{title}: {count} sentences, of at least {least}"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// What is wrong with the cell that says how a sentence is held.
fn unheld(root: &Path, held: &str) -> Vec<String> {
    if let Some(cause) = held.strip_prefix("not held, because ") {
        return if cause.len() > 10 { Vec::new() } else { vec!["no cause".to_owned()] };
    }
    let tests: Vec<_> = held.split('`').skip(1).step_by(2).collect();
    if tests.is_empty() {
        return vec!["no test".to_owned()];
    }
    tests.iter().filter(|test| !exists(root, test)).map(|test| format!("no test {test}")).collect()
}

fn exists(root: &Path, test: &str) -> bool {
    let (folder, test) = match test.strip_prefix("cli ") {
        Some(test) => (root.join("../cli/tests/it"), test),
        None => (root.join("tests/it"), test),
    };
    let Some((module, name)) = test.split_once("::") else { return false };
    let source = std::fs::read_to_string(folder.join(format!("{module}.rs"))).unwrap_or_default();
    source.contains(&format!("#[test]\nfn {name}() {{"))
}
