//! Applying instructions: all but `RUN`, `COPY` and `ADD`, which have modules of their own.

use onetag_llb::{FileActionKind, Mkdir, capability};
use onetag_oci::{Empty, Healthcheck};

use super::environment::split_line;
use super::error::{At, DockerfileError, Result};
use super::names::{go_duration, go_list, step_text};
use super::nodes::{FileNode, NodeKind, NodeOptions};
use super::part::Part;
use super::stage::{StageCommand, StageId};
use super::{DockerfileErrorKind, Lowering, MAX_TEXT_BYTES, config, copy, paths};
use crate::instruction::{self, Arg, Command, CommandLine, Instruction, KeyValue, Mount};
use crate::shell::{Lex, ShellError};
use crate::values::quote;
use crate::{ports, signal};

/// Arguments that steer the builder and are no variables.
const NO_VARIABLES: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

impl Lowering<'_> {
    /// Applies the instructions of all stages that the target needs, in the order of the Dockerfile.
    pub(crate) fn dispatch_stages(&mut self, target: StageId) {
        let reachable = self.stages.reachable(target);
        for id in (0..self.stages.all.len()).filter(|&id| reachable[id]) {
            if !self.stages.all[id].is_dispatched {
                self.dispatch_stage(id);
            }
            if self.text_bytes > MAX_TEXT_BYTES {
                return;
            }
        }
        let paths = self.stages.all[target].paths;
        self.nodes.need_path(paths, "/");
    }

    fn dispatch_stage(&mut self, id: StageId) {
        self.stages.inherit(id);
        let inherited = config::text_bytes(&self.stages.all[id].image);
        let lines = self.stages.all[id].lines;
        let spent = self.spend(inherited).at(lines);
        if self.note(spent).is_none() {
            return;
        }
        let (hostname, network) = (self.hostname(), self.options.network);
        let target = self.target_platform.clone();
        let stage = self.stage(id);
        stage.is_dispatched = true;
        let os = stage.platform.get_or_insert(target).os.clone();
        let env = &mut stage.image.config.env;
        if os != "windows" && !env.iter().any(|line| split_line(line).0 == "PATH") {
            env.push(format!("PATH={}", config::default_path(&os)));
        }
        for line in &stage.image.config.env {
            let (name, value) = split_line(line);
            stage.state.environment.set(name, value);
        }
        if !hostname.is_empty() {
            stage.state.hostname = hostname;
        }
        if !stage.image.config.working_dir.is_empty() {
            let directory = stage.image.config.working_dir.clone();
            self.change_directory(id, &directory);
        }
        let stage = self.stage(id);
        if !stage.image.config.user.is_empty() {
            stage.state.user.clone_from(&stage.image.config.user);
        }
        stage.state.network = network;
        for position in 0..self.stages.all[id].commands.len() {
            let mut command = self.stages.all[id].commands[position].clone();
            let lines = command.instruction.lines;
            if let Err(error) = self.dispatch(id, &mut command).at(Some(lines)) {
                self.dispatch_failed(id, &command, error);
            }
            if self.text_bytes > MAX_TEXT_BYTES {
                return;
            }
        }
    }

    /// Keeps what is wrong with an instruction, unless it may come of an earlier mistake. The instruction changed
    /// nothing; what it would have set is missed from here on.
    fn dispatch_failed(&mut self, id: StageId, command: &StageCommand, error: DockerfileError) {
        let is_doubtful = self.stages.all[id].is_doubtful;
        let Instruction { code, command: instruction, .. } = &command.instruction;
        for mut error in error.into_all() {
            if is_doubtful && error.kind.depends_on_variables(code) {
                continue;
            }
            if command.is_on_build {
                // A trigger stands elsewhere; its lines are those of the FROM.
                error.part = Part::Whole;
            }
            self.note::<()>(Err(error));
        }
        self.stage(id).is_doubtful |= matches!(instruction, Command::Arg(_) | Command::Env(_));
    }

    /// The host name of steps; the build argument wins over the option.
    fn hostname(&self) -> String {
        let given = self.options.build_args.get("BUILDKIT_SANDBOX_HOSTNAME").filter(|name| !name.is_empty());
        given.unwrap_or(&self.options.hostname).clone()
    }

    fn dispatch(&mut self, id: StageId, command: &mut StageCommand) -> Result<()> {
        self.stage(id).counter.is_on_build = command.is_on_build;
        self.expand(id, &mut command.instruction)?;
        let command = &*command;
        let instruction = &command.instruction;
        match &instruction.command {
            Command::Maintainer(name) => {
                self.stage(id).image.author = Some(name.clone()).filter(|name| !name.is_empty());
                self.commit(id, format!("MAINTAINER {name}"));
            }
            Command::Env(pairs) => self.env(id, pairs),
            Command::Run(run) => {
                // Every step holds all variables.
                self.spend(self.stages.all[id].state.environment.text_bytes())?;
                self.run(id, command, run)?;
            }
            Command::Workdir(path) => self.workdir(id, instruction, path),
            Command::Add(add) => self.add_files(id, instruction, add)?,
            Command::Copy(copy) => self.copy_files(id, command, copy)?,
            Command::Label(pairs) => self.label(id, pairs),
            Command::Onbuild(text) => self.stage(id).image.config.on_build.push(text.clone()),
            Command::Cmd(line) => self.cmd(id, line),
            Command::Entrypoint(line) => self.entrypoint(id, line),
            Command::Healthcheck(check) => self.healthcheck(id, check),
            Command::Expose(words) => self.expose(id, words)?,
            Command::User(user) => {
                let stage = self.stage(id);
                stage.state.user.clone_from(user);
                stage.image.config.user.clone_from(user);
                self.commit(id, format!("USER {user}"));
            }
            Command::Volume(volumes) => self.volume(id, volumes)?,
            Command::Stopsignal(name) => {
                if !signal::is_known(name) {
                    let (name, nearest) = (name.clone(), signal::nearest(name));
                    return Err(DockerfileErrorKind::Signal { name, nearest }).about(|| Part::Argument(0));
                }
                self.stage(id).image.config.stop_signal = Some(name.clone());
                self.commit(id, format!("STOPSIGNAL {name}"));
            }
            Command::Shell(words) => {
                self.stage(id).image.config.shell.clone_from(words);
                self.commit(id, format!("SHELL {}", go_list(words)));
            }
            Command::Arg(arg) => self.arg(id, arg)?,
        }
        let image = &self.stages.all[id].image;
        self.spend(image.history.last().map_or(0, config::history_bytes))
    }

    fn expand(&mut self, id: StageId, instruction: &mut Instruction) -> Result<()> {
        let environment = &self.stages.all[id].state.environment;
        let lex = &self.lex;
        if let Command::Run(run) = &instruction.command {
            let mut expand = |word: &str| lex.process_word(word, environment).map(|expanded| expanded.value);
            let flags = run.mount_flags().iter().enumerate();
            let checked = flags.map(|(index, flag)| {
                let mount = Mount::parse(flag, &mut expand).map_err(DockerfileErrorKind::from);
                mount.about(|| Part::Flag("mount", index))
            });
            DockerfileError::first_of(checked.filter_map(Result::err).collect())?;
        }
        // A word that is wrong stays as it is, so that the others are looked at too.
        let mut errors = Vec::new();
        let mut expand = |lex: &Lex, word: &str| match lex.process_word(word, environment) {
            Ok(expanded) => expanded.value,
            Err(error) => {
                errors.extend(Err::<(), _>(error).about(|| Part::Text(word.to_owned())).err());
                word.to_owned()
            }
        };
        let expanded = instruction.command.expand::<ShellError>(&mut |word| Ok(expand(lex, word)));
        let raw = Lex { skip_process_quotes: true, ..Lex::new('\\') };
        let raw = instruction.command.expand_raw::<ShellError>(&mut |word| Ok(expand(&raw, word)));
        DockerfileError::first_of(errors)?;
        expanded.map_err(DockerfileErrorKind::from)?;
        raw.map_err(|error| DockerfileErrorKind::from(error).into())
    }

    /// An entry of the history without a layer.
    fn commit(&mut self, id: StageId, text: String) {
        let epoch = self.epoch;
        config::commit(&mut self.stage(id).image, text, false, epoch);
    }

    fn env(&mut self, id: StageId, pairs: &[KeyValue]) {
        let stage = self.stage(id);
        for pair in pairs {
            stage.state.environment.set(&pair.key, &pair.value);
            config::set_env(&mut stage.image.config.env, &pair.key, &pair.value);
        }
        self.commit(id, with_pairs("ENV", pairs));
    }

    fn label(&mut self, id: StageId, pairs: &[KeyValue]) {
        let labels = pairs.iter().map(|pair| (pair.key.clone(), pair.value.clone()));
        self.stage(id).image.config.labels.extend(labels);
        self.commit(id, with_pairs("LABEL", pairs));
    }

    fn change_directory(&mut self, id: StageId, path: &str) -> String {
        let stage = self.stage(id);
        let directory = paths::absolute(&stage.image.config.working_dir, path, false);
        stage.image.config.working_dir.clone_from(&directory);
        stage.state.directory.clone_from(&directory);
        directory
    }

    fn workdir(&mut self, id: StageId, instruction: &Instruction, path: &str) {
        let directory = self.change_directory(id, path);
        let has_layer = directory != "/";
        let (lex, epoch) = (self.lex.clone(), self.epoch);
        let stage = &mut self.stages.all[id];
        if has_layer {
            let folder = Mkdir {
                path: paths::normalized(&directory, false),
                mode: 0o755,
                make_parents: true,
                owner: copy::owner(&stage.image.config.user),
                timestamp: epoch.map(|seconds| seconds.saturating_mul(1_000_000_000)),
            };
            let text = step_text(&lex, &instruction.code, &stage.state.environment);
            let name = stage.counter.next(&text, stage.platform.as_ref(), &stage.state.environment);
            let options = NodeOptions::named(name).lines(instruction.lines).capability(capability::FILE_BASE);
            let action = FileNode { source: None, kind: FileActionKind::Mkdir(folder) };
            stage.state.output = Some(self.nodes.add(NodeKind::File(stage.state.output, vec![action]), options));
        }
        config::commit(&mut stage.image, format!("WORKDIR {directory}"), has_layer, epoch);
    }

    fn add_files(&mut self, id: StageId, instruction: &Instruction, add: &instruction::Add) -> Result<()> {
        let step = copy::CopyStep {
            instruction,
            sources: &add.sources,
            from: Some(self.context),
            is_add: true,
            chown: &add.chown,
            chmod: &add.chmod,
            exclude: &add.exclude,
            link: add.link,
            parents: false,
            keep_git_dir: add.keep_git_dir,
            checksum: &add.checksum,
            unpack: add.unpack,
        };
        self.copy(id, &step)?;
        for path in
            add.sources.paths.iter().filter(|path| !path.starts_with("http://") && !path.starts_with("https://"))
        {
            self.stage(id).context_paths.insert(paths::join("/", path));
        }
        Ok(())
    }

    fn copy_files(&mut self, id: StageId, command: &StageCommand, copy: &instruction::Copy) -> Result<()> {
        let source = command.sources.first().copied();
        let from = match source {
            None => Some(self.context),
            Some(source) if self.stages.all[source].is_dispatched && source != id => {
                self.stages.all[source].state.output
            }
            Some(_) => {
                let stage = self.stages.all[id].counter.stage.clone();
                let error = DockerfileErrorKind::CopyFromLater { from: copy.from.clone(), stage };
                return Err(error).about(|| Part::Flag("from", 0));
            }
        };
        let step = copy::CopyStep {
            instruction: &command.instruction,
            sources: &copy.sources,
            from,
            is_add: false,
            chown: &copy.chown,
            chmod: &copy.chmod,
            exclude: &copy.exclude,
            link: copy.link,
            parents: copy.parents,
            keep_git_dir: None,
            checksum: "",
            unpack: None,
        };
        self.copy(id, &step)?;
        for path in &copy.sources.paths {
            let path = paths::join("/", path);
            match source {
                None => drop(self.stage(id).context_paths.insert(path)),
                Some(source) => {
                    let set = self.stages.all[source].paths;
                    self.nodes.need_path(set, &path);
                }
            }
        }
        Ok(())
    }

    fn command_line(&self, id: StageId, line: &CommandLine) -> Vec<String> {
        if line.prepend_shell { config::with_shell(&self.stages.all[id].image, &line.args) } else { line.args.to_vec() }
    }

    fn cmd(&mut self, id: StageId, line: &CommandLine) {
        let args = self.command_line(id, line);
        let text = format!("CMD {}", quoted_list(&args));
        let stage = self.stage(id);
        stage.has_cmd = true;
        stage.image.config.cmd = Some(args);
        stage.image.config.args_escaped = true;
        self.commit(id, text);
    }

    fn entrypoint(&mut self, id: StageId, line: &CommandLine) {
        let args = self.command_line(id, line);
        let text = format!("ENTRYPOINT {}", quoted_list(&args));
        let stage = self.stage(id);
        stage.image.config.entrypoint = Some(args);
        if !stage.has_cmd {
            stage.image.config.cmd = None;
        }
        self.commit(id, text);
    }

    fn healthcheck(&mut self, id: StageId, check: &instruction::Healthcheck) {
        let text = format!(
            "HEALTHCHECK {{Test:{} Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
            go_list(&check.test),
            go_duration(check.interval),
            go_duration(check.timeout),
            go_duration(check.start_period),
            go_duration(check.start_interval),
            check.retries
        );
        self.stage(id).image.config.healthcheck = Some(Healthcheck {
            test: check.test.clone(),
            interval: check.interval,
            timeout: check.timeout,
            start_period: check.start_period,
            start_interval: check.start_interval,
            retries: i64::from(check.retries),
        });
        self.commit(id, text);
    }

    fn expose(&mut self, id: StageId, words: &[String]) -> Result<()> {
        let environment = &self.stages.all[id].state.environment;
        let mut ports = Vec::new();
        let mut errors = Vec::new();
        for word in words {
            let parsed = self.lex.process_word(word, environment).map_err(DockerfileErrorKind::from);
            let parsed = parsed.and_then(|expanded| {
                expanded.words.iter().try_for_each(|word| {
                    ports.extend(ports::parse(word).0?.names());
                    Ok(())
                })
            });
            errors.extend(parsed.about(|| Part::Text(word.clone())).err());
        }
        DockerfileError::first_of(errors)?;
        let text = format!("EXPOSE {}", go_list(&ports));
        self.stage(id).image.config.exposed_ports.extend(ports.into_iter().map(|port| (port, Empty {})));
        self.commit(id, text);
        Ok(())
    }

    fn volume(&mut self, id: StageId, volumes: &[String]) -> Result<()> {
        if let Some(index) = volumes.iter().position(String::is_empty) {
            return Err(DockerfileErrorKind::EmptyVolume).about(|| Part::Argument(index));
        }
        self.stage(id).image.config.volumes.extend(volumes.iter().map(|volume| (volume.clone(), Empty {})));
        self.commit(id, format!("VOLUME {}", go_list(volumes)));
        Ok(())
    }

    fn arg(&mut self, id: StageId, arg: &Arg) -> Result<()> {
        let (mut texts, mut errors) = (Vec::new(), Vec::new());
        for definition in &arg.args {
            let mut definition = definition.clone();
            let stage = &self.stages.all[id];
            definition.value = match (self.build_args.get(&definition.key), &definition.value) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => {
                    let expanded = self.lex.process_word(default, &stage.state.environment);
                    match expanded.about(|| Part::Text(default.clone())) {
                        Ok(expanded) => Some(expanded.value),
                        Err(error) => {
                            errors.push(error);
                            continue;
                        }
                    }
                }
                (None, None) => self.globals.value(&definition.key).map(str::to_owned),
            };
            let stage = self.stage(id);
            texts.push(match &definition.value {
                Some(value) => format!("{}={value}", definition.key),
                None => definition.key.clone(),
            });
            if let Some(value) = &definition.value
                && !NO_VARIABLES.contains(&definition.key.as_str())
            {
                stage.state.environment.set(&definition.key, value);
            }
            stage.build_args.push(definition);
        }
        self.commit(id, format!("ARG {}", texts.join(" ")));
        DockerfileError::first_of(errors)
    }
}

fn with_pairs(keyword: &str, pairs: &[KeyValue]) -> String {
    pairs.iter().fold(keyword.to_owned(), |text, pair| format!("{text} {}={}", pair.key, pair.value))
}

fn quoted_list(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quote(word)).collect();
    go_list(&words)
}
