//! A whole Dockerfile.

use crate::diagnostic::Diagnostic;
use crate::instruction::{Focus, Instruction, InstructionError, InstructionErrorKind, Parsed, Stage, parse_node};
use crate::parser::{
    Directive, EmptyContinuation, Node, Parser, SyntaxError, SyntaxErrorKind, detect_syntax, find_directive, push_tight,
};
use crate::span::LineRange;

/// How many errors are reported; reading stops there.
pub const MAX_ERRORS: usize = 100;

/// A Dockerfile with every instruction understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dockerfile {
    /// The text; bytes that are no UTF-8 are replaced.
    pub source: String,
    /// The escape character.
    pub escape: char,
    /// The `syntax` directive, in any of its forms.
    pub syntax: Option<Directive>,
    /// The `check` directive.
    pub check: Option<Directive>,
    /// The `ARG` instructions before the first `FROM`.
    pub meta_args: Vec<Instruction>,
    /// The stages.
    pub stages: Vec<Stage>,
    /// Instructions interrupted by empty lines.
    pub empty_continuations: Vec<EmptyContinuation>,
}

/// Reads a Dockerfile. Reading goes on after an error: what is returned lacks only the
/// instructions that could not be understood, and nothing may be built from it while there is an
/// error. The first error is the one BuildKit reports (it looks for errors of form in the whole
/// file before it understands any instruction), the others follow in the order of lines.
pub fn parse(text: &[u8]) -> (Dockerfile, Vec<Diagnostic>) {
    let source = String::from_utf8_lossy(text);
    let mut reader = Reader::default();
    let mut parser = Parser::new(&source);
    for result in parser.by_ref() {
        match result {
            Ok(node) => reader.node(&node),
            Err(error) => reader.syntax_error(error),
        }
        if reader.errors.len() >= MAX_ERRORS {
            break;
        }
    }
    let (escape, empty_continuations) = (parser.escape(), std::mem::take(&mut parser.empty_continuations));
    let file = Dockerfile {
        escape,
        syntax: detect_syntax(&source),
        check: find_directive(&source, "check"),
        meta_args: reader.meta_args,
        stages: reader.stages,
        empty_continuations,
        source: source.into_owned(),
    };
    if text.is_empty() {
        return (file, vec![Diagnostic::error("the Dockerfile cannot be empty", [])]);
    }
    let mut errors = sort(reader.errors);
    errors.truncate(MAX_ERRORS);
    (file, errors)
}

/// Reads the trigger that a base image or stage left behind. It has the lines of the `FROM` that
/// sets it off.
pub fn parse_trigger(text: &str, lines: LineRange) -> Result<Instruction, Diagnostic> {
    let failed = |message: String| Diagnostic::error(message, [lines]);
    let mut only = None;
    for result in Parser::new(text) {
        let node = result.map_err(|error| failed(error.kind.to_string()))?;
        if only.replace(node).is_some() {
            return Err(failed(InstructionErrorKind::TriggerNotSingle.to_string()));
        }
    }
    let node = only.ok_or_else(|| failed(SyntaxErrorKind::NoInstructions.to_string()))?;
    match parse_node(&node).map_err(|error| failed(error.kind.to_string()))? {
        Parsed::Instruction(mut instruction) => {
            instruction.lines = lines;
            Ok(instruction)
        }
        Parsed::Stage(_) => Err(failed(InstructionErrorKind::NotACommand.to_string())),
    }
}

#[derive(Default)]
struct Reader {
    meta_args: Vec<Instruction>,
    stages: Vec<Stage>,
    /// Whether each is one of form, and the error.
    errors: Vec<(bool, Diagnostic)>,
    /// Whether a `FROM` failed, so that what follows is not without a stage.
    lost_stage: bool,
}

impl Reader {
    fn node(&mut self, node: &Node) {
        match parse_node(node) {
            Ok(Parsed::Stage(stage)) => push_tight(&mut self.stages, stage),
            Ok(Parsed::Instruction(instruction)) => self.instruction(node, instruction),
            Err(error) => {
                self.lost_stage |= node.keyword.text.eq_ignore_ascii_case("from");
                for error in std::iter::once(&error).chain(&error.others) {
                    let message = format!("dockerfile parse error on line {}: {}", node.lines.start, error.kind);
                    self.errors.push((false, describe(node, error, message)));
                }
            }
        }
    }

    fn instruction(&mut self, node: &Node, instruction: Instruction) {
        if let Some(stage) = self.stages.last_mut() {
            push_tight(&mut stage.instructions, instruction);
        } else if matches!(instruction.command, crate::instruction::Command::Arg(_)) {
            push_tight(&mut self.meta_args, instruction);
        } else if !self.lost_stage {
            let error = InstructionError::from(InstructionErrorKind::NoStage);
            let message = error.kind.to_string();
            self.errors.push((false, describe(node, &error, message)));
        }
    }

    fn syntax_error(&mut self, error: SyntaxError) {
        let help = match &error.kind {
            SyntaxErrorKind::UnterminatedHeredoc => Some("the delimiter has to stand alone on a line"),
            SyntaxErrorKind::TwoArguments(_) => Some("write NAME=value"),
            SyntaxErrorKind::NoEquals(_) => Some("put values with space in quotes: NAME=\"two words\""),
            SyntaxErrorKind::NotStrings => Some("put every word in double quotes: [\"sleep\", \"1\"]"),
            SyntaxErrorKind::Directive(_) => Some("parser directives stand at the top, each once: # escape=`"),
            SyntaxErrorKind::NoInstructions => Some("a Dockerfile needs at least a FROM"),
            _ => None,
        };
        let mut diagnostic = Diagnostic::error(error.kind.to_string(), [error.lines]).with_span(error.span);
        diagnostic.help = help.map(str::to_owned);
        self.errors.push((true, diagnostic));
    }
}

/// The error with the characters of the part it is about.
fn describe(node: &Node, error: &InstructionError, message: String) -> Diagnostic {
    let span = match error.focus {
        Focus::Whole => Some(node.whole_span()),
        Focus::Keyword => Some(node.word_span(&node.keyword)),
        Focus::Flag(index) => node.flags.get(index).map(|word| node.word_span(word)),
        Focus::Argument(index) => node.args.get(index).map(|word| node.word_span(word)),
    };
    let mut diagnostic = Diagnostic::error(message, [node.lines]).with_span(span);
    diagnostic.help = error.kind.help();
    diagnostic
}

/// BuildKit's error first, then the others by line.
fn sort(mut errors: Vec<(bool, Diagnostic)>) -> Vec<Diagnostic> {
    let Some(first) = errors.iter().position(|(is_form, _)| *is_form).or((!errors.is_empty()).then_some(0)) else {
        return Vec::new();
    };
    let (_, first) = errors.remove(first);
    errors.sort_by_key(|(_, error)| error.first_line());
    std::iter::once(first).chain(errors.into_iter().map(|(_, error)| error)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_errors_are_reported_with_what_they_are_about() {
        let text = "FROM a\nRUNN x\nCOPY --form=b c /d\nHEALTHCHECK --interval=5 CMD y\nCMD [1]\n";
        let (file, errors) = parse(text.as_bytes());
        let seen: Vec<String> = errors
            .iter()
            .map(|error| format!("{} {}", error.span.unwrap().start, error.message.rsplit(": ").next().unwrap()))
            .collect();
        assert_eq!(
            seen,
            [
                "5:5 when using JSON array syntax, arrays must be comprised of strings only",
                "2:1 RUNN (did you mean RUN?)",
                "3:6 --form (did you mean from?)",
                "4:13 time: missing unit in duration \"5\""
                    .rsplit(": ")
                    .next()
                    .map(|rest| format!("4:13 {rest}"))
                    .unwrap()
                    .as_str(),
            ]
        );
        assert_eq!(file.stages.len(), 1);
    }

    #[test]
    fn every_flag_of_an_instruction_is_looked_at() {
        let text = "FROM a\nCOPY --chmodd=1 --link=x --frm=x b /\nRUN --mount=from=$x --network=foo --security=x --mount=from=$y b\n\
                    HEALTHCHECK --interval=1x --retries=x --retries=2 CMD a\n";
        let (file, errors) = parse(text.as_bytes());
        let places: Vec<String> = errors.iter().map(|error| error.span.unwrap().start.to_string()).collect();
        assert_eq!(
            places,
            ["2:6", "2:17", "2:26", "3:5", "3:48", "3:21", "3:35", "4:39", "4:13", "4:27"],
            "{errors:?}"
        );
        assert!(errors[0].message.ends_with("unknown flag: --chmodd (did you mean chmod?)"));
        assert_eq!(file.stages[0].instructions.len(), 0);
        let many = format!("FROM a\n{}", format!("COPY{} a b\n", " --x".repeat(30)).repeat(10));
        assert_eq!(parse(many.as_bytes()).1.len(), MAX_ERRORS);
    }

    #[test]
    fn errors_are_bounded() {
        let (_, errors) = parse("x\n".repeat(1_000).as_bytes());
        assert_eq!(errors.len(), MAX_ERRORS);
    }

    #[test]
    fn a_trigger_takes_the_lines_of_its_from() {
        let lines = LineRange::single(7);
        assert_eq!(parse_trigger("RUN x", lines).unwrap().lines, lines);
        assert!(parse_trigger("RUN x\nRUN y", lines).is_err());
        assert!(parse_trigger("FROM x", lines).is_err());
    }
}
