//! What each instruction of a stage does to what the checks know.

use std::collections::BTreeSet;

use super::evaluate::Evaluation;
use super::expansion::{self, NOT_IN_ENVIRONMENT, Scope};
use super::static_checks::secret_name;
use super::{
    COPY_IGNORED_FILE, Checked, EXPOSE_INVALID_FORMAT, EXPOSE_PROTO_CASING, JSON_ARGS_RECOMMENDED,
    LEGACY_KEY_VALUE_FORMAT, LintConfig, MULTIPLE_INSTRUCTIONS_DISALLOWED, WORKDIR_RELATIVE_PATH, failure,
};
use crate::call::OutlineArgument;
use crate::chmod::Mode;
use crate::git::GitReference;
use crate::instruction::{
    ArgDefinition, Command, CommandLine, ExpandFailure, Instruction, KeyValue, MountType, Run, Sources,
};
use crate::shell::{Environment as _, Lex, ShellError};
use crate::span::LineRange;
use crate::values::{clean_path, quote};
use crate::{ports, signal};

/// Follows one instruction of a stage.
pub(super) fn dispatch(
    evaluation: &mut Evaluation<'_>,
    index: usize,
    mut instruction: Instruction,
    sources: &[usize],
) -> Checked<()> {
    let config = evaluation.linter.config.with_comments(&instruction.comments);
    expand(evaluation, &config, index, &mut instruction)?;
    let keyword = instruction.keyword().to_owned();
    let mut step = Step { evaluation, config, index, sources, keyword, lines: instruction.lines };
    match instruction.command {
        Command::Env(pairs) => step.env(&pairs),
        Command::Label(pairs) => step.legacy(&pairs),
        Command::Arg(arg) => return step.arg(arg.args),
        Command::Run(run) => return step.run(&run),
        Command::Copy(copy) => {
            if let Some(source) = sources.first() {
                step.check_copy_source(*source, &copy.from)?;
            }
            return step.copy(&copy.sources, &copy.chmod, sources.is_empty().then_some("Copy"));
        }
        Command::Add(add) => {
            step.checksum(&add.checksum, &add.sources)?;
            return step.copy(&add.sources, &add.chmod, Some("Add"));
        }
        Command::Workdir(path) => step.workdir(&path),
        Command::Cmd(line) => step.cmd(&line),
        Command::Entrypoint(line) => step.entrypoint(&line),
        Command::Healthcheck(_) => step.healthcheck(),
        Command::Expose(words) => return step.expose(&words),
        Command::Volume(volumes) if volumes.iter().any(String::is_empty) => {
            return failure("VOLUME specified can not be an empty string", []);
        }
        Command::Stopsignal(name) if !signal::is_known(&name) => {
            return failure(format!("invalid signal: {name}"), []);
        }
        Command::Shell(words) => step.evaluation.states.all[index].image.config.shell = words,
        Command::Onbuild(_)
        | Command::Maintainer(_)
        | Command::User(_)
        | Command::Volume(_)
        | Command::Stopsignal(_) => {}
    }
    Ok(())
}

/// Expands the words of an instruction, then its heredocs.
fn expand(
    evaluation: &mut Evaluation<'_>,
    config: &LintConfig,
    index: usize,
    instruction: &mut Instruction,
) -> Checked<()> {
    let Evaluation { linter, lex, states, .. } = evaluation;
    let state = &states.all[index];
    let scope = Scope { variables: &state.variables, arguments: &state.arguments, lines: instruction.lines };
    let expanded =
        instruction.command.expand::<ShellError>(&mut |word: &str| expansion::word(linter, config, lex, word, scope));
    match expanded {
        Ok(()) => {}
        Err(ExpandFailure::Word(error)) => return failure(error.to_string(), []),
        Err(ExpandFailure::Mount(error)) => return failure(error.to_string(), []),
    }
    let raw = Lex { skip_process_quotes: true, ..Lex::new('\\') };
    let expanded = instruction
        .command
        .expand_raw::<ShellError>(&mut |word: &str| expansion::word(linter, config, &raw, word, scope));
    expanded.or_else(|error| failure(error.to_string(), []))
}

struct Step<'a, 'b> {
    evaluation: &'a mut Evaluation<'b>,
    config: LintConfig,
    index: usize,
    sources: &'a [usize],
    keyword: String,
    lines: LineRange,
}

impl Step<'_, '_> {
    fn report(&mut self, rule: &'static super::Rule, message: String) {
        self.evaluation.linter.report(&self.config, rule, self.lines, message);
    }

    fn legacy(&mut self, pairs: &[KeyValue]) {
        for _ in pairs.iter().filter(|pair| pair.legacy) {
            let keyword = &self.keyword;
            let message =
                format!("\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" format");
            self.report(&LEGACY_KEY_VALUE_FORMAT, message);
        }
    }

    fn env(&mut self, pairs: &[KeyValue]) {
        for pair in pairs {
            self.legacy(std::slice::from_ref(pair));
            secret_name(self.evaluation.linter, &self.config, "ENV", &pair.key, self.lines);
            let state = &mut self.evaluation.states.all[self.index];
            state.variables.set(&pair.key, &pair.value);
            let line = format!("{}={}", pair.key, pair.value);
            let env = &mut state.image.config.env;
            match env.iter_mut().find(|known| known.split('=').next() == Some(&pair.key)) {
                Some(known) => *known = line,
                None => env.push(line),
            }
        }
    }

    fn arg(&mut self, definitions: Vec<ArgDefinition>) -> Checked<()> {
        for mut definition in definitions {
            // One that only takes over a global argument is described there.
            let is_own = definition.value.is_some()
                || self.evaluation.request.build_args.contains_key(&definition.key)
                || self.evaluation.globals.variables.get(&definition.key).is_none();
            secret_name(self.evaluation.linter, &self.config, "ARG", &definition.key, self.lines);
            let Evaluation { linter, lex, states, globals, request, .. } = &mut *self.evaluation;
            let state = &mut states.all[self.index];
            definition.value = match (request.build_args.get(&definition.key), definition.value) {
                (Some(value), _) => Some(value.clone()),
                (None, Some(default)) => {
                    let scope = Scope { variables: &state.variables, arguments: &state.arguments, lines: self.lines };
                    match expansion::word(linter, &self.config, lex, &default, scope) {
                        Ok(value) => Some(value),
                        Err(error) => return failure(error.to_string(), []),
                    }
                }
                (None, None) => globals.variables.get(&definition.key).map(str::to_owned),
            };
            if let Some(value) = &definition.value
                && !NOT_IN_ENVIRONMENT.contains(&definition.key.as_str())
            {
                state.variables.set(&definition.key, value);
            }
            if is_own {
                let argument = OutlineArgument {
                    name: definition.key.clone(),
                    description: definition.description.clone(),
                    value: definition.value.clone().unwrap_or_default(),
                    lines: self.lines,
                };
                state.notes.arguments.insert(definition.key.clone(), (argument, BTreeSet::new()));
            }
            state.notes.used.insert(definition.key.clone());
            state.arguments.push(definition);
        }
        Ok(())
    }

    fn run(&mut self, run: &Run) -> Checked<()> {
        if !run.line.files.is_empty() && (run.line.args.len() != 1 || !run.line.prepend_shell) {
            return failure(format!("parsing produced an invalid run command: [{}]", run.line.args.join(" ")), []);
        }
        for (mount, source) in run.mounts().iter().zip(self.sources) {
            let from = if mount.from.is_empty() && mount.kind == MountType::Cache { "scratch" } else { &mount.from };
            if !from.is_empty() && !self.evaluation.states.all[*source].is_dispatched {
                let (from, target) = (quote(from), quote(&mount.target));
                let message = format!(
                    "cannot mount from stage {from} to {target}, stage needs to be defined before current command"
                );
                return failure(message, []);
            }
            if mount.kind == MountType::Ssh && !mount.source.is_empty() {
                return failure("ssh does not support source", []);
            }
            if matches!(mount.kind, MountType::Secret | MountType::Ssh) {
                self.evaluation.states.all[self.index].notes.mount(mount, self.lines);
                continue;
            }
            let workdir = &self.evaluation.states.all[self.index].image.config.working_dir;
            let target = if clean_path(&mount.target).starts_with('/') {
                mount.target.clone()
            } else {
                clean_path(&format!("/{workdir}/{}", mount.target))
            };
            if target == "/" {
                return failure(format!("invalid mount target {}", quote(&target)), []);
            }
        }
        Ok(())
    }

    fn check_copy_source(&self, source: usize, from: &str) -> Checked<()> {
        let states = &self.evaluation.states.all;
        if states[source].is_dispatched {
            return Ok(());
        }
        let (from, current) = (quote(from), quote(&states[self.index].label));
        let message = format!("cannot copy from stage {from}, it needs to be defined before current stage {current}");
        failure(message, [])
    }

    fn checksum(&self, checksum: &str, sources: &Sources) -> Checked<()> {
        if checksum.is_empty() {
            return Ok(());
        }
        match sources.paths.as_slice() {
            [source] if is_url(source) || GitReference::is_source(source) => Ok(()),
            [_] => failure("checksum requires HTTP(S) or Git sources", []),
            _ => failure("checksum can't be specified for multiple sources", []),
        }
    }

    /// `verb` is given where files of the build context are copied.
    fn copy(&mut self, sources: &Sources, chmod: &str, verb: Option<&str>) -> Checked<()> {
        if !chmod.is_empty()
            && let Err(error) = Mode::parse(chmod)
        {
            return failure(error.to_string(), []);
        }
        let is_add = verb == Some("Add");
        for path in &sources.paths {
            match GitReference::parse(path) {
                Ok(None) => {}
                Ok(Some(_)) if is_add => continue,
                Ok(Some(_)) => return failure("source can't be a git ref for COPY", []),
                Err(error) => return failure(error.to_string(), []),
            }
            if is_url(path) {
                if is_add {
                    continue;
                }
                return failure("source can't be a URL for COPY", []);
            }
            if let Some(verb) = verb {
                self.ignored_file(verb, path);
            }
        }
        Ok(())
    }

    fn ignored_file(&mut self, verb: &str, path: &str) {
        let Some(patterns) = &self.evaluation.ignored else { return };
        let path = clean_path(path);
        let is_root = matches!(path.as_str(), "." | "/");
        let ignores_root = || patterns.iter().any(|(pattern, _)| matches!(pattern, "*" | "**" | "**/*"));
        if (!is_root || ignores_root()) && patterns.matches(&path).unwrap_or_default() {
            let message = format!("Attempting to {verb} file {} that is excluded by .dockerignore", quote(&path));
            self.report(&COPY_IGNORED_FILE, message);
        }
    }

    fn workdir(&mut self, path: &str) {
        let state = &mut self.evaluation.states.all[self.index];
        let is_windows = state.platform.as_ref().is_some_and(|platform| platform.os == "windows");
        let is_absolute = path.starts_with('/') || (is_windows && is_windows_absolute(path));
        let was_set = std::mem::replace(&mut state.workdir_set, true);
        let current = &mut state.image.config.working_dir;
        *current = clean_path(&if is_absolute { path.to_owned() } else { format!("/{current}/{path}") });
        if !was_set && !is_absolute {
            let path = quote(path);
            let message = format!("Relative workdir {path} can have unexpected results if the base image changes");
            self.report(&WORKDIR_RELATIVE_PATH, message);
        }
    }

    fn cmd(&mut self, line: &CommandLine) {
        let before = self.evaluation.states.all[self.index].cmd.replace(self.lines);
        self.only_once(before);
        self.json_form(line);
    }

    fn entrypoint(&mut self, line: &CommandLine) {
        let before = self.evaluation.states.all[self.index].entrypoint.replace(self.lines);
        self.only_once(before);
        self.json_form(line);
    }

    fn healthcheck(&mut self) {
        let before = self.evaluation.states.all[self.index].healthcheck.replace(self.lines);
        self.only_once(before);
    }

    /// Reports the earlier one, which has no effect.
    fn only_once(&mut self, before: Option<LineRange>) {
        let Some(before) = before else { return };
        let message = format!(
            "Multiple {} instructions should not be used in the same stage because only the last one will be used",
            self.keyword
        );
        self.evaluation.linter.report(&self.config, &MULTIPLE_INSTRUCTIONS_DISALLOWED, before, message);
    }

    fn json_form(&mut self, line: &CommandLine) {
        if line.prepend_shell && self.evaluation.states.all[self.index].image.config.shell.is_empty() {
            let message = format!(
                "JSON arguments recommended for {} to prevent unintended behavior related to OS signals",
                self.keyword
            );
            self.report(&JSON_ARGS_RECOMMENDED, message);
        }
    }

    fn expose(&mut self, words: &[String]) -> Checked<()> {
        let mut expanded = Vec::new();
        for word in words {
            let state = &self.evaluation.states.all[self.index];
            match self.evaluation.lex.process_word(word, &state.variables) {
                Ok(done) => expanded.extend(done.words.iter().map(str::to_owned)),
                Err(error) => return failure(error.to_string(), []),
            }
        }
        for word in expanded {
            let (ports, findings) = ports::parse(&word);
            if findings.protocol_casing {
                let message = format!("Defined protocol '{word}' in EXPOSE instruction should be lowercase");
                self.report(&EXPOSE_PROTO_CASING, message);
            }
            if findings.has_mapping {
                let message =
                    format!("EXPOSE instruction should not define an IP address or host-port mapping, found '{word}'");
                self.report(&EXPOSE_INVALID_FORMAT, message);
            }
            if let Err(error) = ports {
                return failure(error.to_string(), []);
            }
        }
        Ok(())
    }
}

fn is_url(path: &str) -> bool {
    path.starts_with("http://") || path.starts_with("https://")
}

/// `C:\folder`, `\folder`
fn is_windows_absolute(path: &str) -> bool {
    let rest = match path.as_bytes() {
        [drive, b':', ..] if drive.is_ascii_alphabetic() => &path[2..],
        _ => path,
    };
    rest.starts_with(['/', '\\'])
}
