//! What a container of an image executes first: the entry point through `PATH`, links, `#!` lines and shells to the
//! programs that the kernel loads.

use onetag_oci::ContainerConfig;
use onetag_oci::elf::{Loader, Program};

use super::file::Content;
use super::tree::{Entry, FileTree, Resolved, Unread, resolve};

/// Scripts and wrappers followed; the kernel follows five `#!` lines.
const DEPTH_MAX: usize = 8;
/// `PATH` where the config has none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Shells whose `-c` is looked into.
const SHELLS: [&str; 6] = ["sh", "bash", "dash", "ash", "ksh", "zsh"];
/// Programs that only start another, which follows their options.
const WRAPPERS: [&str; 6] = ["tini", "tini-static", "dumb-init", "catatonit", "docker-init", "s6-setuidgid"];
/// Words that shells execute themselves.
const BUILTINS: [&str; 26] = [
    ".", ":", "[", "alias", "break", "case", "cd", "command", "echo", "eval", "exit", "export", "for", "if", "printf",
    "read", "set", "shift", "source", "test", "trap", "true", "ulimit", "umask", "unset", "while",
];

/// What a file on the way is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The entry point itself, or what a wrapper starts.
    Program,
    /// The interpreter that a `#!` line names.
    Interpreter,
    /// The loader that a program names.
    Loader,
}

impl Role {
    /// As messages name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Program => "program",
            Self::Interpreter => "interpreter",
            Self::Loader => "loader",
        }
    }
}

/// A program that is executed on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) path: String,
    pub(crate) role: Role,
    pub(crate) program: Program,
}

/// Why a container would not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryProblem {
    /// Nothing stands at the path.
    #[error("the entry point {path} is not in the image")]
    Missing {
        /// The path.
        path: String,
    },
    /// No folder of `PATH` has it.
    #[error("the entry point {name:?} is in no folder of PATH ({folders})")]
    NotInPath {
        /// The name.
        name: String,
        /// The folders.
        folders: String,
    },
    /// A script's interpreter is missing.
    #[error("the interpreter {interpreter} of the script {script} is not in the image")]
    NoInterpreter {
        /// The script.
        script: String,
        /// What its `#!` line names.
        interpreter: String,
    },
    /// A program's loader is missing.
    #[error("the loader {loader} of {program} is not in the image")]
    NoLoader {
        /// The program.
        program: String,
        /// What it names.
        loader: String,
    },
    /// No permission to execute.
    #[error("{path} may not be executed: mode {mode:04o}")]
    NotExecutable {
        /// The path.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// Not a file.
    #[error("the entry point {path} is no file")]
    NoFile {
        /// The path.
        path: String,
    },
    /// Neither a program nor a script.
    #[error("{path} is {what}, which Linux does not execute")]
    Format {
        /// The path.
        path: String,
        /// What it is.
        what: &'static str,
    },
    /// Links or scripts that lead to each other.
    #[error("the entry point {path} leads in a circle")]
    Circle {
        /// The path.
        path: String,
    },
}

/// What a container of an image executes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trace {
    /// The first word of entry point and command; none where the config names neither.
    pub(crate) command: Option<String>,
    /// The programs in the order in which the kernel loads them.
    pub(crate) steps: Vec<Step>,
    /// Whether it ends at a WebAssembly module.
    pub(crate) is_wasm: bool,
    /// Why it would not start.
    pub(crate) problem: Option<EntryProblem>,
}

/// The folders in which programs are looked for.
pub(crate) fn search_path(config: &ContainerConfig) -> &str {
    config.env.iter().rev().find_map(|line| line.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH)
}

/// Follows the entry point of a config.
///
/// # Errors
/// [`Unread`] where the way leads through a layer that was not read.
pub(crate) fn trace(tree: &dyn FileTree, config: &ContainerConfig) -> Result<Trace, Unread> {
    let words: Vec<String> = config.entrypoint.iter().chain(&config.cmd).flatten().cloned().collect();
    let Some(first) = words.first() else { return Ok(Trace::default()) };
    let mut tracer = Tracer { tree, config, trace: Trace { command: Some(first.clone()), ..Trace::default() } };
    let followed = tracer.execute(&words, Role::Program, 0);
    match followed {
        Err(Stop::Unread) => return Err(Unread),
        Err(Stop::Problem(problem)) => tracer.trace.problem = Some(problem),
        Ok(()) => {}
    }
    Ok(tracer.trace)
}

/// Why following ends early.
enum Stop {
    Unread,
    Problem(EntryProblem),
}

impl From<Unread> for Stop {
    fn from(_: Unread) -> Self {
        Self::Unread
    }
}

impl From<EntryProblem> for Stop {
    fn from(problem: EntryProblem) -> Self {
        Self::Problem(problem)
    }
}

struct Tracer<'a> {
    tree: &'a dyn FileTree,
    config: &'a ContainerConfig,
    trace: Trace,
}

impl Tracer<'_> {
    fn execute(&mut self, words: &[String], role: Role, depth: usize) -> Result<(), Stop> {
        let Some(name) = words.first() else { return Ok(()) };
        if depth > DEPTH_MAX {
            return Err(EntryProblem::Circle { path: name.clone() }.into());
        }
        let (path, content) = self.find(name)?;
        match content {
            Content::Elf(program) => {
                let loader = program.loader.clone();
                self.trace.steps.push(Step { path: path.clone(), role, program: *program });
                self.load(&path, &loader)?;
                self.behind(words, depth)
            }
            Content::Script { interpreter, argument } => self.interpret(&path, interpreter, argument, words, depth),
            Content::Wasm => {
                self.trace.is_wasm = true;
                Ok(())
            }
            Content::Empty => Err(EntryProblem::Format { path, what: "an empty file" }.into()),
            Content::Windows => Err(EntryProblem::Format { path, what: "a program of Windows" }.into()),
            Content::Other => {
                let what = "neither an ELF program nor a script with a #! line";
                Err(EntryProblem::Format { path, what }.into())
            }
        }
    }

    fn interpret(
        &mut self,
        script: &str,
        interpreter: String,
        argument: Option<String>,
        words: &[String],
        depth: usize,
    ) -> Result<(), Stop> {
        let missing = || EntryProblem::NoInterpreter { script: script.to_owned(), interpreter: interpreter.clone() };
        let absolute = if interpreter.starts_with('/') { interpreter.clone() } else { self.in_folder(&interpreter) };
        if interpreter.is_empty() || matches!(resolve(self.tree, &absolute)?, Resolved::Missing(_)) {
            return Err(missing().into());
        }
        let mut line = vec![absolute];
        line.extend(argument);
        line.push(script.to_owned());
        line.extend_from_slice(&words[1..]);
        match self.execute(&line, Role::Interpreter, depth + 1) {
            // `#!/usr/bin/env NAME` names the interpreter in its second word.
            Err(Stop::Problem(EntryProblem::NotInPath { name, .. })) => {
                Err(EntryProblem::NoInterpreter { script: script.to_owned(), interpreter: name }.into())
            }
            other => other,
        }
    }

    /// The loader of a program, which the kernel executes in its place.
    fn load(&mut self, program: &str, loader: &Loader) -> Result<(), Stop> {
        let Loader::Path(loader) = loader else { return Ok(()) };
        let absolute = if loader.starts_with('/') { loader.clone() } else { self.in_folder(loader) };
        match resolve(self.tree, &absolute)? {
            Resolved::Found { path, entry: Entry::File { content: Content::Elf(found), .. } } => {
                self.trace.steps.push(Step { path, role: Role::Loader, program: *found });
                Ok(())
            }
            Resolved::Found { .. } | Resolved::Missing(_) | Resolved::Circle(_) => {
                Err(EntryProblem::NoLoader { program: program.to_owned(), loader: loader.clone() }.into())
            }
        }
    }

    /// What a shell, a wrapper or `env` starts in turn.
    fn behind(&mut self, words: &[String], depth: usize) -> Result<(), Stop> {
        let name = words[0].rsplit('/').next().unwrap_or_default();
        let rest = &words[1..];
        if SHELLS.contains(&name) && rest.first().is_some_and(|option| option == "-c") {
            let Some(command) = rest.get(1).and_then(|script| simple_command(script)) else { return Ok(()) };
            return self.perhaps(&[command], depth);
        }
        if name == "env" {
            return self.behind_env(rest, depth);
        }
        if WRAPPERS.contains(&name) {
            return match rest.iter().position(|word| word == "--") {
                Some(end) => self.execute(&rest[end + 1..], Role::Program, depth + 1),
                None => match rest.iter().position(|word| !word.starts_with('-')) {
                    Some(start) => self.perhaps(&rest[start..], depth),
                    None => Ok(()),
                },
            };
        }
        Ok(())
    }

    fn behind_env(&mut self, rest: &[String], depth: usize) -> Result<(), Stop> {
        let mut words: Vec<String> = Vec::new();
        for word in rest {
            // A `#!` line hands all that follows over as one word; -S splits it.
            match word.strip_prefix("-S") {
                Some(line) if words.is_empty() => words.extend(line.split_whitespace().map(str::to_owned)),
                _ => words.push(word.clone()),
            }
        }
        let start = words.iter().position(|word| !word.starts_with('-') && !word.contains('='));
        match start {
            Some(0) => self.execute(&words, Role::Interpreter, depth + 1),
            // An option may take the word behind it.
            Some(start) => self.perhaps(&words[start..], depth),
            None => Ok(()),
        }
    }

    /// Follows what may be a program: where it is none, nothing is claimed.
    fn perhaps(&mut self, words: &[String], depth: usize) -> Result<(), Stop> {
        match words.first().map(|name| self.find(name)) {
            Some(Err(Stop::Unread)) => Err(Stop::Unread),
            Some(Ok(_)) => self.execute(words, Role::Program, depth + 1),
            Some(Err(Stop::Problem(_))) | None => Ok(()),
        }
    }

    /// The file that a word names, as `execvp` finds it.
    fn find(&self, name: &str) -> Result<(String, Content), Stop> {
        if name.contains('/') {
            let path = if name.starts_with('/') { name.to_owned() } else { self.in_folder(name) };
            return match resolve(self.tree, &path)? {
                Resolved::Found { path, entry: Entry::File { mode, content } } => {
                    if mode & 0o111 == 0 {
                        return Err(EntryProblem::NotExecutable { path, mode }.into());
                    }
                    Ok((path, content))
                }
                Resolved::Found { path, .. } => Err(EntryProblem::NoFile { path }.into()),
                Resolved::Missing(missing) if missing == path => Err(EntryProblem::Missing { path }.into()),
                Resolved::Missing(missing) => {
                    Err(EntryProblem::Missing { path: format!("{path} (which needs {missing})") }.into())
                }
                Resolved::Circle(path) => Err(EntryProblem::Circle { path }.into()),
            };
        }
        let folders = search_path(self.config);
        for folder in folders.split(':') {
            let folder = if folder.starts_with('/') { folder.to_owned() } else { self.in_folder(folder) };
            let found = resolve(self.tree, &format!("{folder}/{name}"))?;
            if let Resolved::Found { path, entry: Entry::File { mode, content } } = found
                && mode & 0o111 != 0
            {
                return Ok((path, content));
            }
        }
        Err(EntryProblem::NotInPath { name: name.to_owned(), folders: folders.to_owned() }.into())
    }

    /// A path as seen from the working directory.
    fn in_folder(&self, path: &str) -> String {
        format!("/{}/{path}", self.config.working_dir)
    }
}

/// The first word of a shell script, where it is nothing but the name of a program.
fn simple_command(script: &str) -> Option<String> {
    let script = script.trim_start();
    let script = script.strip_prefix("exec ").unwrap_or(script);
    let word = script.split_whitespace().next()?;
    let is_plain = word.chars().all(|letter| letter.is_ascii_alphanumeric() || "/._+-".contains(letter));
    (is_plain && !BUILTINS.contains(&word)).then(|| word.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use onetag_oci::elf::{Header, Kind};

    use super::*;

    /// Files by path: `elf`, `elf:LOADER`, `->TARGET`, `#!LINE`, `plain`, `text`, `dir`.
    struct Files(HashMap<&'static str, &'static str>);

    impl FileTree for Files {
        fn entry(&self, path: &[u8]) -> Result<Option<Entry>, Unread> {
            let path = std::str::from_utf8(path).unwrap();
            if self.0.keys().any(|known| known.starts_with(&format!("{path}/"))) {
                return Ok(Some(Entry::Directory));
            }
            let Some(what) = self.0.get(path) else { return Ok(None) };
            let file = |mode, content| Ok(Some(Entry::File { mode, content }));
            if let Some(target) = what.strip_prefix("->") {
                return Ok(Some(Entry::Symlink(target.as_bytes().to_vec())));
            }
            match what.split_once(':').unwrap_or((what, "")) {
                ("elf", loader) => {
                    let loader = if loader.is_empty() { Loader::None } else { Loader::Path(loader.to_owned()) };
                    let header = Header { class: 2, little_endian: true, os_abi: 0, kind: 2, machine: 62, flags: 0 };
                    file(0o755, Content::Elf(Box::new(Program { header, kind: Kind::Executable, loader, level: None })))
                }
                ("plain", _) => file(0o644, Content::Other),
                ("text", _) => file(0o755, Content::Other),
                ("unread", _) => Err(Unread),
                _ => {
                    let mut bytes = std::io::Cursor::new(what.as_bytes());
                    file(0o755, Content::read(&mut bytes).unwrap())
                }
            }
        }
    }

    fn follow(files: &[(&'static str, &'static str)], words: &[&str]) -> Result<String, Unread> {
        let mut config = ContainerConfig { env: vec!["PATH=/opt:/bin".to_owned()], ..ContainerConfig::default() };
        config.working_dir = "/srv".to_owned();
        config.entrypoint = words.first().map(|first| vec![(*first).to_owned()]);
        config.cmd = words.get(1..).map(|rest| rest.iter().map(|word| (*word).to_owned()).collect());
        let trace = trace(&Files(files.iter().copied().collect()), &config)?;
        let steps: Vec<String> = trace.steps.iter().map(|step| format!("{} {}", step.role.name(), step.path)).collect();
        let problem = trace.problem.map(|problem| format!("! {problem}"));
        Ok(steps.into_iter().chain(problem).collect::<Vec<_>>().join(", "))
    }

    #[test]
    fn names_are_looked_for_as_execvp_does() {
        let files =
            [("bin/app", "elf"), ("opt/app", "plain"), ("srv/run", "elf"), ("usr/x", "->/bin/app"), ("bin/d/y", "elf")];
        for (words, expected) in [
            (&["app"][..], "program /bin/app"),
            (&["./run"], "program /srv/run"),
            (&["/usr/x", "-v"], "program /bin/app"),
            (&["/opt/app"], "! /opt/app may not be executed: mode 0644"),
            (&["/bin/none"], "! the entry point /bin/none is not in the image"),
            (&["none"], "! the entry point \"none\" is in no folder of PATH (/opt:/bin)"),
            (&["/bin/d"], "! the entry point /bin/d is no file"),
            (&[], ""),
        ] {
            assert_eq!(follow(&files, words).unwrap(), expected, "{words:?}");
        }
    }

    #[test]
    fn scripts_lead_to_their_interpreters() {
        let files = [
            ("bin/sh", "->busybox"),
            ("bin/busybox", "elf"),
            ("bin/env", "elf"),
            ("bin/python", "elf:/lib/ld.so"),
            ("lib/ld.so", "elf"),
            ("a", "#!/bin/sh -e"),
            ("b", "#!/bin/env python"),
            ("c", "#!/bin/bash"),
            ("d", "#!/bin/env -S python -u"),
            ("e", "#!/bin/env perl"),
            ("f", "#!/f"),
            ("g", "text"),
        ];
        for (word, expected) in [
            ("/a", "interpreter /bin/busybox"),
            ("/b", "interpreter /bin/env, interpreter /bin/python, loader /lib/ld.so"),
            ("/c", "! the interpreter /bin/bash of the script /c is not in the image"),
            ("/d", "interpreter /bin/env, interpreter /bin/python, loader /lib/ld.so"),
            ("/e", "interpreter /bin/env, ! the interpreter perl of the script /e is not in the image"),
            ("/f", "! the entry point /f leads in a circle"),
            ("/g", "! /g is neither an ELF program nor a script with a #! line, which Linux does not execute"),
        ] {
            assert_eq!(follow(&files, &[word]).unwrap(), expected, "{word}");
        }
    }

    #[test]
    fn shells_and_wrappers_start_others() {
        let files = [("bin/sh", "elf"), ("bin/app", "elf"), ("bin/tini", "elf"), ("bin/lost", "elf:/lib/none")];
        for (words, expected) in [
            (&["/bin/sh", "-c", "exec app --flag"][..], "program /bin/sh, program /bin/app"),
            (&["/bin/sh", "-c", "echo hello; app"], "program /bin/sh"),
            (&["/bin/sh", "-c", "$APP x"], "program /bin/sh"),
            (&["sh", "-c", "none"], "program /bin/sh"),
            (&["tini", "-g", "--", "/bin/app"], "program /bin/tini, program /bin/app"),
            (&["tini", "app"], "program /bin/tini, program /bin/app"),
            (&["tini", "--", "/none"], "program /bin/tini, ! the entry point /none is not in the image"),
            (&["lost"], "program /bin/lost, ! the loader /lib/none of /bin/lost is not in the image"),
        ] {
            assert_eq!(follow(&files, words).unwrap(), expected, "{words:?}");
        }
    }

    #[test]
    fn what_was_not_read_is_asked_for() {
        assert_eq!(follow(&[("opt", "unread"), ("bin/app", "elf")], &["app"]), Err(Unread));
        assert_eq!(follow(&[("opt", "unread"), ("bin/app", "elf")], &["/bin/app"]).unwrap(), "program /bin/app");
    }
}
