//! `RUN`.

use onetag_llb::{ExecMeta, Mount, MountKind, NetworkMode, SecurityMode, capability};

use super::environment::EnvironmentList;
use super::error::{At, Result};
use super::mounts::RunParts;
use super::names::{step_text, summarize};
use super::nodes::{MountNode, NodeKind, NodeOptions};
use super::part::Part;
use super::stage::{StageCommand, StageId};
use super::{DockerfileErrorKind, Lowering, arguments, config};
use crate::instruction::{ArgDefinition, CommandLine, Run, RunNetwork, RunSecurity};
use crate::parser::{chomp_heredoc, parse_heredoc};
use crate::shell::{Environment, Lex};

/// Where a heredoc that begins with `#!` is put.
const SCRIPT_FOLDER: &str = "/dev/pipes/";

impl Lowering<'_> {
    pub(crate) fn run(&mut self, id: StageId, command: &StageCommand, run: &Run) -> Result<()> {
        if !run.devices().is_empty() {
            return Err(DockerfileErrorKind::Device).about(|| Part::Flag("device", 0));
        }
        let paths = self.stages.all[id].paths;
        self.nodes.need_path(paths, "/");
        let mut parts = RunParts::default();
        let mut code = command.instruction.code.to_string();
        let mut args = self.heredoc_arguments(id, &run.line, &mut code, &mut parts)?;
        if run.line.prepend_shell {
            args = config::with_shell(&self.stages.all[id].image, &args);
        }
        self.add_mounts(id, run.mounts(), &command.sources, &mut parts)?;
        self.set_process(id, run, &args, &mut parts);

        let stage = &mut self.stages.all[id];
        let environment = stage.state.environment.clone();
        let lex = Lex { raw_quotes: true, skip_unset_env: true, ..self.lex.clone() };
        let text = step_text(&lex, &code, &masked(run, &environment));
        let name = stage.counter.next(&text, stage.state.platform.as_ref(), &environment);
        let mut options = NodeOptions::named(name)
            .command(&command.instruction.code)
            .lines(command.instruction.lines)
            .ignore_cache(stage.ignore_cache);
        options.platform.clone_from(&stage.state.platform);
        options.metadata.caps.append(&mut parts.metadata.caps);
        let RunParts { mut exec, mounts, secrets, agents, .. } = parts;
        exec.mounts.extend(secrets);
        exec.mounts.extend(agents);
        stage.state.output = Some(self.nodes.add(NodeKind::Exec(Box::new(exec), mounts), options));
        let history = format!("RUN {} # buildkit", command_text(&args, &stage.build_args, &environment));
        config::commit(&mut self.stages.all[id].image, history, true, self.epoch);
        Ok(())
    }

    /// The words of a `RUN`, after its heredocs took their place: a script is mounted and run, a lone document is the
    /// shell's input, anything else is given to the shell as it stands.
    fn heredoc_arguments(
        &mut self,
        id: StageId,
        line: &CommandLine,
        code: &mut String,
        parts: &mut RunParts,
    ) -> Result<Vec<String>> {
        let Some(first) = line.files.first() else { return Ok(line.args.to_vec()) };
        let [text] = &*line.args else {
            return Err(DockerfileErrorKind::RunHeredoc(line.args.to_vec()).into());
        };
        if !line.prepend_shell {
            return Err(DockerfileErrorKind::RunHeredoc(line.args.to_vec()).into());
        }
        if parse_heredoc(text).is_none() {
            let mut script = text.clone();
            for file in &line.files {
                script.push('\n');
                script.push_str(&file.data);
                script.push_str(&file.name);
            }
            return Ok(vec![script]);
        }
        let data = if first.chomp { chomp_heredoc(&first.data) } else { first.data.clone() };
        code.push_str(&format!(" ({})", summarize(&first.data)));
        if self.stages.all[id].image.os == "windows" || !data.starts_with("#!") {
            return Ok(vec![data]);
        }
        let source = self.inline_file(&first.name, 0o755, data.as_bytes());
        let mount =
            Mount { selector: "/".to_owned(), target: SCRIPT_FOLDER.to_owned(), readonly: true, ..Mount::default() };
        parts.mount(MountNode { source, mount, has_output: false });
        Ok(vec![format!("{SCRIPT_FOLDER}{}", first.name)])
    }

    fn set_process(&self, id: StageId, run: &Run, args: &[String], parts: &mut RunParts) {
        let state = &self.stages.all[id].state;
        let root = Mount { target: "/".to_owned(), ..Mount::default() };
        parts.mount(MountNode { source: state.output, mount: root, has_output: true });
        if self.options.shm_size > 0 {
            let kind = MountKind::Tmpfs { size: self.options.shm_size };
            let mount = Mount { target: "/dev/shm".to_owned(), kind, ..Mount::default() };
            parts.mount(MountNode { source: None, mount, has_output: false });
        }
        let mut environment = state.environment.clone();
        if let (Some(agent), None) = (parts.agents.first(), environment.value("SSH_AUTH_SOCK")) {
            environment.set("SSH_AUTH_SOCK", &agent.target);
        }
        let exec = &mut parts.exec;
        exec.meta = ExecMeta {
            args: args.to_vec(),
            env: environment.lines(),
            cwd: state.directory.clone(),
            user: state.user.clone(),
            proxy: arguments::proxy(self.options),
            extra_hosts: self.options.extra_hosts.clone(),
            hostname: state.hostname.clone(),
            ulimits: self.options.ulimits.clone(),
            cgroup_parent: self.options.cgroup_parent.clone(),
            remove_mount_stubs_recursive: true,
            valid_exit_codes: Vec::new(),
        };
        exec.network = match run.network {
            RunNetwork::Default => state.network,
            RunNetwork::None => NetworkMode::None,
            RunNetwork::Host => NetworkMode::Host,
        };
        exec.security = match run.security {
            RunSecurity::Sandbox => SecurityMode::Sandbox,
            RunSecurity::Insecure => SecurityMode::Insecure,
        };
        for (name, is_needed) in [
            (capability::EXEC_META_BASE, true),
            (capability::EXEC_META_SETS_DEFAULT_PATH, true),
            (capability::EXEC_META_ULIMIT, !exec.meta.ulimits.is_empty()),
            (capability::EXEC_META_NETWORK, exec.network != NetworkMode::Sandbox),
            (capability::EXEC_META_SECURITY, exec.security == SecurityMode::Insecure),
            (capability::EXEC_META_PROXY, exec.meta.proxy.is_some()),
        ] {
            if is_needed {
                parts.metadata.add_capability(name);
            }
        }
    }
}

/// The variables with those that hold secrets hidden, for names.
fn masked(run: &Run, environment: &EnvironmentList) -> EnvironmentList {
    let mut masked = environment.clone();
    for name in run.mounts().iter().filter_map(|mount| mount.env.as_ref()) {
        masked.set(name, "****");
    }
    masked
}

/// What history says: the build arguments in force, then the words.
fn command_text(args: &[String], build_args: &[ArgDefinition], environment: &EnvironmentList) -> String {
    let mut lines: Vec<(&str, String)> = Vec::new();
    for arg in build_args {
        let value = environment.get(&arg.key).or(arg.value.as_deref()).unwrap_or_default();
        let line = format!("{}={value}", arg.key);
        match lines.iter_mut().find(|(known, _)| *known == arg.key) {
            Some((_, known)) => *known = line,
            None => lines.push((&arg.key, line)),
        }
    }
    let mut words = Vec::new();
    if !lines.is_empty() {
        words.push(format!("|{}", lines.len()));
    }
    words.extend(lines.into_iter().map(|(_, line)| line));
    words.extend(args.iter().cloned());
    words.join(" ")
}
