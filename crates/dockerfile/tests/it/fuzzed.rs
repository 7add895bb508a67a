//! Inputs that fuzzing found worth keeping: each leads somewhere that others do not.

use std::path::PathBuf;

use onetag_dockerfile::chmod::Mode;
use onetag_dockerfile::git::GitReference;
use onetag_dockerfile::instruction::{Command, Mount};
use onetag_dockerfile::lint::LintConfig;
use onetag_dockerfile::parser::{Parser, detect_syntax, find_directive};
use onetag_dockerfile::resolver::IgnoreFile;
use onetag_dockerfile::shell::{Lex, Variables};
use onetag_dockerfile::{
    LowerOptions, MAX_ERRORS, NamedContext, ResolveError, ResolveOptions, ResolvedImage, Resolver, ignore, lower,
    mistakes, parse, parse_trigger, ports, values,
};
use onetag_oci::{Platform, Reference};

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

/// Whatever is written for a flag is read or refused.
#[test]
fn values_of_flags_are_read_or_refused() {
    for (path, bytes) in inputs("flag_syntaxes") {
        let text = String::from_utf8_lossy(&bytes);
        if let Ok(range) = ports::parse(&text).0 {
            assert!(range.first <= range.last && range.names().count() <= 65_536, "{}", path.display());
        }
        if let Ok(Some(git)) = GitReference::parse(&text) {
            assert!(!git.folder.split('/').any(|part| part == ".."), "{}", path.display());
        }
        let clean = values::clean_path(&text);
        assert_eq!(values::clean_path(&clean), clean, "{}", path.display());
        let _ = (values::parse_size(&text), values::parse_duration(&text), LintConfig::parse(&text));
        if let Ok(mode) = Mode::parse(&text) {
            assert!(mode.apply(0o644, false) <= 0o7777, "{}", path.display());
        }
        let _ = Mount::parse::<()>(&text, &mut |word| Ok(word.to_owned()));
    }
}

/// What expands and what matches, from inputs that led fuzzing somewhere.
#[test]
fn expansions_and_ignore_files_are_read_or_refused() {
    for (path, bytes) in inputs("expansion") {
        let text = String::from_utf8_lossy(&bytes);
        let variables = Variables::from_lines(text.lines());
        for lex in [Lex::new('\\'), Lex { skip_process_quotes: true, skip_unset_env: true, ..Lex::new('`') }] {
            let Ok(expanded) = lex.process_word(&text, &variables) else { continue };
            let joined: usize = expanded.words.iter().map(str::len).sum();
            assert!(joined <= expanded.value.len(), "{}", path.display());
        }
    }
    for (_, bytes) in inputs("ignore_file") {
        let Ok(patterns) = ignore::Patterns::new(ignore::read(&bytes)) else { continue };
        let parent = patterns.matches_below("a/b", None).ok().map(|(_, matches)| matches);
        let _ = (patterns.matches("a/b/c"), patterns.matches_below("a/b/c", parent.as_ref()));
    }
}

/// The same Dockerfile means the same graph, or the same mistakes.
#[test]
fn dockerfiles_are_lowered_or_refused() {
    for (path, bytes) in inputs("lowering") {
        let (file, errors) = parse(&bytes);
        if !errors.is_empty() {
            continue;
        }
        let lowered = || {
            let options = LowerOptions { build_platform: Platform::linux("amd64"), ..LowerOptions::default() };
            match lower(&file, &options, &NoImages) {
                Ok(lowered) => (lowered.graph.to_definition(), String::new()),
                Err(error) => (Vec::new(), error.to_string()),
            }
        };
        assert_eq!(lowered(), lowered(), "{}", path.display());
    }
}

/// Knows no image and no context.
struct NoImages;

impl Resolver for NoImages {
    fn image_config(&self, _: &Reference, _: &Platform, _: &ResolveOptions) -> Result<ResolvedImage, ResolveError> {
        Err(ResolveError::new(std::io::Error::other("not found")))
    }

    fn ignore_file(&self) -> Result<Option<IgnoreFile>, ResolveError> {
        Ok(None)
    }

    fn named_context(&self, _: &str) -> Result<Option<NamedContext>, ResolveError> {
        Ok(None)
    }
}
