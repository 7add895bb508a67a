//! Checks that need nothing but the text of the instructions.

use super::{
    CONSISTENT_INSTRUCTION_CASING, DUPLICATE_STAGE_NAME, FROM_AS_CASING, INVALID_DEFINITION_DESCRIPTION, LintConfig,
    Linter, MAINTAINER_DEPRECATED, RESERVED_STAGE_NAME, SECRETS_USED_IN_ARG_OR_ENV, STAGE_NAME_CASING,
};
use crate::instruction::{Command, Instruction, Parsed, Stage};
use crate::parser::Node;
use crate::span::LineRange;
use crate::values::quote;

/// What is checked before an instruction is understood.
pub(super) fn before_parsing(linter: &mut Linter, config: &LintConfig, node: &Node) {
    let keyword = node.keyword.text.as_str();
    if keyword.eq_ignore_ascii_case("maintainer") {
        let message = "Maintainer instruction is deprecated in favor of using label".to_owned();
        linter.report(config, &MAINTAINER_DEPRECATED, node.lines, message);
    }
    if !keyword.eq_ignore_ascii_case("from") {
        return;
    }
    if let [_, _, name] = node.args.as_slice()
        && name.text != name.text.to_lowercase()
    {
        let message = format!("Stage name '{}' should be lowercase", name.text);
        linter.report(config, &STAGE_NAME_CASING, node.lines, message);
    }
    if let [_, name, _, ..] = node.args.as_slice() {
        let expected = if keyword == keyword.to_lowercase() {
            name.text.to_lowercase()
        } else if keyword == keyword.to_uppercase() {
            name.text.to_uppercase()
        } else {
            // The keyword itself is reported elsewhere.
            return;
        };
        if name.text != expected {
            let message = format!("'{}' and '{keyword}' keywords' casing do not match", name.text);
            linter.report(config, &FROM_AS_CASING, node.lines, message);
        }
    }
}

/// What is checked once it is understood: that a comment above a definition describes it.
pub(super) fn after_parsing(linter: &mut Linter, config: &LintConfig, parsed: &Parsed) {
    let (instruction, names, comments, lines) = match parsed {
        Parsed::Stage(stage) if !stage.name.is_empty() => {
            ("FROM", vec![stage.name.as_str()], stage.comments.as_slice(), stage.lines)
        }
        Parsed::Instruction(Instruction { command: Command::Arg(arg), comments, lines, .. }) => {
            ("ARG", arg.args.iter().map(|definition| definition.key.as_str()).collect(), &**comments, *lines)
        }
        _ => return,
    };
    let Some(comment) = comments.last() else { return };
    let first_word = comment.split(' ').next().unwrap_or_default();
    if names.contains(&first_word) {
        return;
    }
    let example = if names.len() > 1 { "<arg_key>" } else { names[0] };
    let message = format!("Comment for {instruction} should follow the format: `# {example} <description>`");
    linter.report(config, &INVALID_DEFINITION_DESCRIPTION, lines, message);
}

/// Names that mean something else, and names that are used twice.
pub(super) fn stage_names(linter: &mut Linter, stages: &[Stage]) {
    let config = linter.config.clone();
    let mut seen = std::collections::HashSet::new();
    for stage in stages.iter().filter(|stage| !stage.name.is_empty()) {
        if matches!(stage.name.as_str(), "context" | "scratch") {
            let message = format!("Stage name should not use the same name as reserved stage {}", quote(&stage.name));
            linter.report(&config, &RESERVED_STAGE_NAME, stage.lines, message);
        }
        if !seen.insert(stage.name.as_str()) {
            let message = format!("Duplicate stage name {}, stage names should be unique", quote(&stage.name));
            linter.report(&config, &DUPLICATE_STAGE_NAME, stage.lines, message);
        }
    }
}

/// Keywords in another case than most.
pub(super) fn casing(linter: &mut Linter, stages: &[Stage]) {
    let config = linter.config.clone();
    let keywords: Vec<(&str, LineRange)> = stages
        .iter()
        .flat_map(|stage| {
            let from = (stage.keyword.as_str(), stage.lines);
            let rest = stage.instructions.iter().map(|instruction| (instruction.keyword(), instruction.lines));
            std::iter::once(from).chain(rest)
        })
        .collect();
    let lower = keywords.iter().filter(|(keyword, _)| *keyword == keyword.to_lowercase()).count();
    let upper = keywords
        .iter()
        .filter(|(keyword, _)| *keyword == keyword.to_uppercase() && *keyword != keyword.to_lowercase())
        .count();
    let (is_right, name): (fn(&str) -> bool, _) = if lower > upper {
        (|keyword| keyword == keyword.to_lowercase(), "lowercase")
    } else {
        (|keyword| keyword == keyword.to_uppercase(), "uppercase")
    };
    for (keyword, lines) in keywords {
        if !is_right(keyword) {
            let message = format!("Command '{keyword}' should match the case of the command majority ({name})");
            linter.report(&config, &CONSISTENT_INSTRUCTION_CASING, lines, message);
        }
    }
}

/// A name that looks like that of a secret.
pub(super) fn secret_name(linter: &mut Linter, config: &LintConfig, instruction: &str, name: &str, lines: LineRange) {
    const SECRETS: [&str; 10] =
        ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];
    const HARMLESS: [&str; 3] = ["public", "file", "version"];
    let lower = name.to_lowercase();
    let has = |words: &[&str]| lower.split('_').any(|part| words.contains(&part));
    if has(&SECRETS) && !has(&HARMLESS) {
        let message = format!("Do not use ARG or ENV instructions for sensitive data ({instruction} {})", quote(name));
        linter.report(config, &SECRETS_USED_IN_ARG_OR_ENV, lines, message);
    }
}
