//! The lesson of docs/ as it is typed: every file is written, every command is run, every output is compared; digests,
//! sizes, times and the width of columns aside.

use std::time::Duration;

use onetag_testkit::folder::repository;
use onetag_testkit::{Running, require};

use crate::support::World;

/// What a line of the lesson that stands for any number of lines says.
const ANY_LINES: &str = "…";

/// A block of the lesson.
enum Block {
    File { name: String, content: String },
    Commands(Vec<(String, Vec<String>)>),
}

fn blocks(lesson: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = lesson.lines();
    while let Some(line) = lines.next() {
        let Some(kind) = line.strip_prefix("```") else { continue };
        let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        if let Some(name) = kind.strip_prefix("dockerfile ") {
            let content = body.iter().map(|line| format!("{line}\n")).collect();
            blocks.push(Block::File { name: name.to_owned(), content });
        } else if kind == "console" {
            let mut commands: Vec<(String, Vec<String>)> = Vec::new();
            for line in body {
                match (line.strip_prefix("$ "), commands.last_mut()) {
                    (Some(command), _) => commands.push((command.to_owned(), Vec::new())),
                    (None, Some((_, output))) => output.push(line.to_owned()),
                    (None, None) => panic!("output before a command: {line}"),
                }
            }
            blocks.push(Block::Commands(commands));
        }
    }
    blocks
}

/// The line without what is different each time.
fn essence(line: &str) -> String {
    let words = line.split_whitespace().map(|word| {
        let is_digest = |word: &str| word.len() >= 12 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        if let Some((before, after)) = word.split_once("sha256:") {
            let digits = after.bytes().take_while(u8::is_ascii_hexdigit).count();
            return format!("{before}sha256:…{}", &after[digits..]);
        }
        let number = word.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let is_amount = number.len() < word.len() && matches!(number, "B" | "kB" | "MB" | "s");
        let is_time = word.len() > 10 && word.contains('T') && word.ends_with('Z') && word.starts_with("20");
        if is_digest(word) || is_amount || is_time { "…".to_owned() } else { word.to_owned() }
    });
    let text = words.collect::<Vec<_>>().join(" ");
    // How long ago something was made.
    ["Less than a second ago", "About a minute ago"].iter().fold(text, |text, age| text.replace(age, "1 second ago"))
}

/// As [`essence`], with ages in seconds told alike.
fn comparable(line: &str) -> String {
    let words: Vec<String> = essence(line).split(' ').map(str::to_owned).collect();
    let mut out: Vec<String> = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let is_age = words.get(at + 1).is_some_and(|unit| unit.starts_with("second"))
            && words.get(at + 2).is_some_and(|ago| ago == "ago");
        out.push(if is_age { "ago".to_owned() } else { words[at].clone() });
        at += if is_age { 3 } else { 1 };
    }
    out.join(" ")
}

/// Whether the output is what the lesson shows.
fn matches(expected: &[String], actual: &[String]) -> bool {
    match expected.split_first() {
        None => actual.is_empty(),
        Some((first, rest)) if first == ANY_LINES => {
            (0..=actual.len()).any(|skipped| matches(rest, &actual[skipped..]))
        }
        Some((first, rest)) => {
            actual.split_first().is_some_and(|(line, others)| line == first && matches(rest, others))
        }
    }
}

#[test]
fn every_command_says_what_the_lesson_shows() {
    require!(cfg!(target_arch = "x86_64"), "the lesson is told on an amd64 machine");
    let lesson = std::fs::read_to_string(repository().join("docs/lesson.md")).expect("the lesson");
    let world = World::any();
    let registry = world.registry.name();
    let here = |text: &str| text.replace("localhost:5000", &registry);
    let binary = world.onetag.binary().parent().expect("a folder").display().to_string();
    let mut commands_run = 0;
    for block in blocks(&lesson) {
        match block {
            Block::File { name, content } => {
                world.onetag.file(&name, here(&content));
            }
            Block::Commands(commands) => {
                for (command, expected) in commands {
                    let script = format!("PATH=\"{binary}:$PATH\"\n{{ {}\n}} 2>&1", here(&command));
                    let state = world.onetag.work().join("state");
                    // Variables of one command are there in the next.
                    let script = format!("[ ! -e {0} ] || . {0}\n{script}\nset | grep ^child= > {0}", state.display());
                    let mut shell = world.onetag.program("sh");
                    let finished = Running::start(shell.args(["-c", &script])).finish(Duration::from_secs(120));
                    let shown: Vec<String> = finished
                        .text()
                        .lines()
                        .map(|line| comparable(&line.replace(&registry, "localhost:5000")))
                        .collect();
                    let expected: Vec<String> = expected.iter().map(|line| comparable(line)).collect();
                    assert!(
                        matches(&expected, &shown),
                        "$ {command}\nexpected {expected:#?}\nshown {shown:#?}\n{finished}"
                    );
                    commands_run += 1;
                }
            }
        }
    }
    assert!(commands_run >= 20, "{commands_run} commands were found in the lesson");
}
