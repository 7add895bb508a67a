//! Inputs that fuzzing found worth keeping: each leads somewhere that others do not.

use std::path::PathBuf;

use onetag_dockerfile::instruction::{Command, Mount};
use onetag_dockerfile::parser::{Parser, detect_syntax, find_directive};
use onetag_dockerfile::shell::{Lex, Variables};
use onetag_dockerfile::{LowerOptions, MAX_ERRORS, ignore, mistakes, parse, parse_trigger};

fn inputs(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds")).join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let inputs: Vec<_> =
        entries.map(|entry| entry.unwrap().path()).map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    assert!(inputs.len() >= 10, "{} holds inputs", folder.display());
    inputs
}

#[test]
fn raw_instructions_lie_inside_the_file() {
    for (path, bytes) in inputs("lexer").into_iter().chain(inputs("parser")) {
        let text = String::from_utf8_lossy(&bytes);
        let lines = text.split('\n').count() as u32 + 1;
        for node in Parser::new(&text).flatten() {
            assert!(node.lines.start >= 1 && node.lines.end <= lines, "{}", path.display());
            for word in node.flags.iter().chain(&node.args).chain([&node.keyword]) {
                let span = node.word_span(word);
                assert!(span.start <= span.end && span.end.line <= lines, "{}", path.display());
            }
        }
        let _ = (detect_syntax(&text), find_directive(&text, "check"));
    }
}

#[test]
fn instructions_are_understood_or_refused() {
    for (path, bytes) in inputs("parser") {
        let (file, errors) = parse(&bytes);
        let errors = mistakes(&file, &LowerOptions::default(), errors);
        assert!(errors.len() <= MAX_ERRORS, "{}", path.display());
        for error in &errors {
            let _ = (error.excerpt("Dockerfile", &file.source), error.underline(&file.source));
        }
        for instruction in file.stages.iter().flat_map(|stage| &stage.instructions) {
            assert!(instruction.code.starts_with(instruction.keyword()), "{}", path.display());
            if let Command::Onbuild(trigger) = &instruction.command {
                let _ = parse_trigger(trigger, instruction.lines);
            }
        }
    }
}

#[test]
fn a_byte_order_mark_before_asterisks_matches_nothing() {
    let patterns = ignore::Patterns::new(["\u{feff}**z".to_owned()]).unwrap();
    assert_eq!(patterns.matches("a/z").ok(), Some(false));
}

/// The same inputs as words, patterns and mounts: any text has to be refused in an orderly way.
#[test]
fn words_patterns_and_mounts_are_read_or_refused() {
    for (_, bytes) in inputs("lexer") {
        let text = String::from_utf8_lossy(&bytes);
        let variables = Variables::from_lines(text.lines());
        for raw in [false, true] {
            let lex = Lex { raw_quotes: raw, raw_escapes: raw, skip_unset_env: raw, ..Lex::new('\\') };
            let _ = lex.process_word(&text, &variables);
        }
        if let Ok(patterns) = ignore::Patterns::new(ignore::read(&bytes)) {
            let _ = patterns.matches("a/b/c");
        }
        let _ = Mount::parse::<()>(&text, &mut |word| Ok(word.to_owned()));
    }
}
