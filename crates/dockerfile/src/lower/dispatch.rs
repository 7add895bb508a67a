//! Applying instructions: all but `RUN`, `COPY` and `ADD`, which have modules of their own.

use onetag_llb::{FileActionKind, Mkdir, capability};
use onetag_oci::{Empty, Healthcheck};

use super::environment::split_line;
use super::error::{At, Result};
use super::names::{go_duration, go_list, step_text};
use super::nodes::{FileNode, NodeKind, NodeOptions};
use super::stage::{StageCommand, StageId};
use super::{DockerfileErrorKind, Lowering, config, copy, paths};
use crate::instruction::{self, Arg, Command, CommandLine, Instruction, KeyValue};
use crate::shell::Lex;
use crate::values::quote;
use crate::{ports, signal};

/// Arguments that steer the builder and are no variables.
const NO_VARIABLES: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

impl Lowering<'_> {
    /// Applies the instructions of all stages that the target needs, in the order of the Dockerfile.
    pub(crate) fn dispatch_stages(&mut self, target: StageId) -> Result<()> {
        let reachable = self.stages.reachable(target);
        for id in (0..self.stages.all.len()).filter(|&id| reachable[id]) {
            if !self.stages.all[id].is_dispatched {
                self.dispatch_stage(id)?;
            }
        }
        let paths = self.stages.all[target].paths;
        self.nodes.need_path(paths, "/");
        Ok(())
    }

    fn dispatch_stage(&mut self, id: StageId) -> Result<()> {
        self.stages.inherit(id);
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
            self.dispatch(id, &mut command).at(Some(lines))?;
        }
        Ok(())
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
            Command::Run(run) => self.run(id, command, run)?,
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
                    return Err(DockerfileErrorKind::Signal(name.clone()).into());
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
        Ok(())
    }

    fn expand(&mut self, id: StageId, instruction: &mut Instruction) -> Result<()> {
        let environment = &self.stages.all[id].state.environment;
        let lex = &self.lex;
        instruction
            .command
            .expand(&mut |word| Ok(lex.process_word(word, environment)?.value))
            .map_err(DockerfileErrorKind::from)?;
        let raw = Lex { skip_process_quotes: true, ..Lex::new('\\') };
        instruction
            .command
            .expand_raw(&mut |word| Ok(raw.process_word(word, environment)?.value))
            .map_err(|error: crate::shell::ShellError| DockerfileErrorKind::from(error).into())
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
                return Err(DockerfileErrorKind::CopyFromLater { from: copy.from.clone(), stage }.into());
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
        for word in words {
            for expanded in self.lex.process_word(word, environment)?.words {
                ports.extend(ports::parse(&expanded).0?);
            }
        }
        let text = format!("EXPOSE {}", go_list(&ports));
        self.stage(id).image.config.exposed_ports.extend(ports.into_iter().map(|port| (port, Empty {})));
        self.commit(id, text);
        Ok(())
    }

    fn volume(&mut self, id: StageId, volumes: &[String]) -> Result<()> {
        if volumes.iter().any(String::is_empty) {
            return Err(DockerfileErrorKind::EmptyVolume.into());
        }
        self.stage(id).image.config.volumes.extend(volumes.iter().map(|volume| (volume.clone(), Empty {})));
        self.commit(id, format!("VOLUME {}", go_list(volumes)));
        Ok(())
    }

    fn arg(&mut self, id: StageId, arg: &Arg) -> Result<()> {
        let mut texts = Vec::new();
        for definition in &arg.args {
            let mut definition = definition.clone();
            let stage = &self.stages.all[id];
            definition.value = match (self.build_args.get(&definition.key), &definition.value) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => Some(self.lex.process_word(default, &stage.state.environment)?.value),
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
        Ok(())
    }
}

fn with_pairs(keyword: &str, pairs: &[KeyValue]) -> String {
    pairs.iter().fold(keyword.to_owned(), |text, pair| format!("{text} {}={}", pair.key, pair.value))
}

fn quoted_list(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quote(word)).collect();
    go_list(&words)
}
