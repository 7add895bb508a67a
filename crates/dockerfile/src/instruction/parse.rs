//! From raw instructions to typed ones.

use super::builder_flags::{FlagKind, Flags};
use super::error::{Focus, InstructionError, InstructionErrorKind as Kind};
use super::{
    Add, Arg, ArgDefinition, Command, CommandLine, Copy, InlineFile, Instruction, KeyValue, Mount, Run, RunFlags,
    RunNetwork, RunSecurity, SourceContent, Sources, Stage, device, health,
};
use crate::parser::{Node, chomp_heredoc, parse_heredoc, push_tight};
use crate::suggest;

/// The instructions of the language.
pub const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// What a raw instruction is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A `FROM`: a stage without instructions.
    Stage(Stage),
    /// Anything else.
    Instruction(Instruction),
}

/// Understands a raw instruction.
pub fn parse_node(node: &Node) -> Result<Parsed, InstructionError> {
    if node.keyword.text.eq_ignore_ascii_case("from") {
        return stage(node).map(Parsed::Stage);
    }
    let command = command(node)?;
    Ok(Parsed::Instruction(Instruction {
        code: node.original.trim().into(),
        keyword_bytes: u32::try_from(node.keyword.text.len()).unwrap_or_default(),
        lines: node.lines,
        span: node.whole_span(),
        comments: node.comments.as_slice().into(),
        command,
    }))
}

fn command(node: &Node) -> Result<Command, InstructionError> {
    match node.keyword.text.to_ascii_lowercase().as_str() {
        "add" => add(node),
        "arg" => arg(node),
        "cmd" => shell_dependent(node).map(|line| Command::Cmd(Box::new(line))),
        "copy" => copy(node),
        "entrypoint" => shell_dependent(node).map(|line| Command::Entrypoint(Box::new(line))),
        "env" => pairs(node, "ENV").map(Command::Env),
        "expose" => expose(node),
        "healthcheck" => health::parse(node),
        "label" => pairs(node, "LABEL").map(Command::Label),
        "maintainer" => one_word(node, "MAINTAINER").map(Command::Maintainer),
        "onbuild" => onbuild(node),
        "run" => run(node),
        "shell" => shell(node),
        // Its flags are not looked at.
        "stopsignal" => match node.args.as_slice() {
            [word] => Ok(Command::Stopsignal(word.text.clone())),
            _ => Err(Kind::ExactlyOne("STOPSIGNAL").into()),
        },
        "user" => one_word(node, "USER").map(Command::User),
        "volume" => volume(node),
        "workdir" => one_word(node, "WORKDIR").map(Command::Workdir),
        _ => {
            let keyword = node.keyword.text.clone();
            let nearest = suggest::nearest_ignoring_case(&keyword, KEYWORDS);
            Err(Kind::Unknown { keyword, nearest }.at(Focus::Keyword))
        }
    }
}

fn no_flags(node: &Node) -> Result<(), InstructionError> {
    Flags::parse(&node.flags, &[]).map(|_| ())
}

fn one_word(node: &Node, name: &'static str) -> Result<String, InstructionError> {
    let [word] = node.args.as_slice() else { return Err(Kind::ExactlyOne(name).into()) };
    no_flags(node)?;
    Ok(word.text.clone())
}

fn pairs(node: &Node, name: &'static str) -> Result<Vec<KeyValue>, InstructionError> {
    no_flags(node)?;
    if node.args.is_empty() {
        return Err(Kind::AtLeastOne(name).into());
    }
    let mut pairs = Vec::with_capacity(node.args.len() / 3);
    for (index, words) in node.args.chunks_exact(3).enumerate() {
        if words[0].text.is_empty() {
            return Err(Kind::BlankName(name).at(Focus::Argument(index * 3)));
        }
        pairs.push(KeyValue {
            key: words[0].text.clone(),
            value: words[1].text.clone(),
            legacy: words[2].text.is_empty(),
        });
    }
    Ok(pairs)
}

fn stage(node: &Node) -> Result<Stage, InstructionError> {
    let written_name = match node.args.as_slice() {
        [_] => "",
        [_, keyword, name] if keyword.text.eq_ignore_ascii_case("as") => name.text.as_str(),
        _ => return Err(Kind::FromArguments.into()),
    };
    let name = written_name.to_lowercase();
    if !name.is_empty() && !is_stage_name(&name) {
        return Err(Kind::StageName(written_name.to_owned()).at(Focus::Argument(2)));
    }
    let flags = Flags::parse(&node.flags, &[("platform", FlagKind::Text)])?;
    Ok(Stage {
        description: description(&node.comments, &name),
        written_name: written_name.to_owned(),
        name,
        base: node.args[0].text.clone(),
        platform: flags.text("platform"),
        keyword: node.keyword.text.clone(),
        code: node.original.trim().to_owned(),
        lines: node.lines,
        span: node.whole_span(),
        comments: node.comments.clone(),
        instructions: Vec::new(),
    })
}

/// Whether a name, already in lower case, is one for a stage.
fn is_stage_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.'))
}

/// What the comments say of a name: the rest of the first line that begins with it.
fn description(comments: &[String], name: &str) -> String {
    if name.is_empty() {
        return String::new();
    }
    comments.iter().find_map(|comment| comment.strip_prefix(name)?.strip_prefix(' ')).unwrap_or_default().to_owned()
}

fn arg(node: &Node) -> Result<Command, InstructionError> {
    if node.args.is_empty() {
        return Err(Kind::AtLeastOne("ARG").into());
    }
    let mut args = Vec::with_capacity(node.args.len());
    for (index, word) in node.args.iter().enumerate() {
        let (key, value) = match word.text.split_once('=') {
            Some(("", _)) => return Err(Kind::BlankName("ARG").at(Focus::Argument(index))),
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (word.text.as_str(), None),
        };
        args.push(ArgDefinition { key: key.to_owned(), value, description: description(&node.comments, key) });
    }
    Ok(Command::Arg(Arg { args }))
}

fn sources(node: &Node, name: &'static str) -> Result<Sources, InstructionError> {
    // The caller has checked that there are two.
    let Some((destination, words)) = node.args.split_last() else { return Err(Kind::NoDestination(name).into()) };
    if parse_heredoc(&destination.text).is_some() {
        return Err(Kind::HeredocDestination(name).at(Focus::Argument(words.len())));
    }
    let mut sources = Sources { destination: destination.text.clone(), ..Sources::default() };
    for word in words {
        let Some(heredoc) = parse_heredoc(&word.text) else {
            push_tight(&mut sources.paths, word.text.clone());
            continue;
        };
        // Of two heredocs with one name the last body counts for both.
        let body = node.heredocs.iter().rfind(|known| known.name == heredoc.name).map(|known| known.content.as_str());
        let body = body.unwrap_or_default();
        let data = if heredoc.chomp { chomp_heredoc(body) } else { body.to_owned() };
        push_tight(&mut sources.contents, SourceContent { path: heredoc.name, data, expand: heredoc.expand });
    }
    Ok(sources)
}

fn copy(node: &Node) -> Result<Command, InstructionError> {
    if node.args.len() < 2 {
        return Err(Kind::NoDestination("COPY").into());
    }
    let flags = Flags::parse(
        &node.flags,
        &[
            ("chown", FlagKind::Text),
            ("from", FlagKind::Text),
            ("chmod", FlagKind::Text),
            ("link", FlagKind::Boolean),
            ("exclude", FlagKind::List),
            ("parents", FlagKind::Boolean),
        ],
    )?;
    Ok(Command::Copy(Box::new(Copy {
        sources: sources(node, "COPY")?,
        from: flags.text("from"),
        chown: flags.text("chown"),
        chmod: flags.text("chmod"),
        link: flags.boolean("link").unwrap_or_default(),
        parents: flags.boolean("parents").unwrap_or_default(),
        exclude: flags.list("exclude").map(|(value, _)| value.to_owned()).collect(),
    })))
}

fn add(node: &Node) -> Result<Command, InstructionError> {
    if node.args.len() < 2 {
        return Err(Kind::NoDestination("ADD").into());
    }
    let flags = Flags::parse(
        &node.flags,
        &[
            ("chown", FlagKind::Text),
            ("chmod", FlagKind::Text),
            ("link", FlagKind::Boolean),
            ("keep-git-dir", FlagKind::Boolean),
            ("checksum", FlagKind::Text),
            ("unpack", FlagKind::Boolean),
            ("exclude", FlagKind::List),
        ],
    )?;
    Ok(Command::Add(Box::new(Add {
        sources: sources(node, "ADD")?,
        chown: flags.text("chown"),
        chmod: flags.text("chmod"),
        link: flags.boolean("link").unwrap_or_default(),
        exclude: flags.list("exclude").map(|(value, _)| value.to_owned()).collect(),
        keep_git_dir: flags.boolean("keep-git-dir"),
        checksum: flags.text("checksum"),
        unpack: flags.boolean("unpack"),
    })))
}

/// The arguments of `RUN`, `CMD` and `ENTRYPOINT`.
fn command_line(node: &Node) -> CommandLine {
    let words: Box<[String]> = node.args.iter().map(|word| word.text.clone()).collect();
    let args = if node.json || words.len() < 2 { words } else { [words.join(" ")].into() };
    let files = node.heredocs.iter().map(|heredoc| InlineFile {
        name: heredoc.name.clone(),
        data: heredoc.content.clone(),
        chomp: heredoc.chomp,
    });
    CommandLine { args, prepend_shell: !node.json, files: files.collect() }
}

fn shell_dependent(node: &Node) -> Result<CommandLine, InstructionError> {
    no_flags(node)?;
    Ok(command_line(node))
}

fn run(node: &Node) -> Result<Command, InstructionError> {
    let (flags, mut mistakes) = Flags::read(
        &node.flags,
        &[
            ("mount", FlagKind::List),
            ("network", FlagKind::Text),
            ("security", FlagKind::Text),
            ("device", FlagKind::List),
        ],
    );
    let mut devices = Vec::new();
    for (value, focus) in flags.list("device") {
        devices.extend(mistakes.note(device::parse(value).map_err(|kind| kind.at(focus))));
    }
    let mut mounts = Vec::new();
    for (value, focus) in flags.list("mount") {
        mounts.extend(mistakes.note(Mount::parse_from(value).map_err(|error| Kind::Mount(error).at(focus))));
    }
    let network = match flags.find("network") {
        None | Some(("default", _)) => RunNetwork::Default,
        Some(("none", _)) => RunNetwork::None,
        Some(("host", _)) => RunNetwork::Host,
        Some((other, focus)) => {
            mistakes.note::<()>(Err(Kind::Network(other.to_owned()).at(focus)));
            RunNetwork::Default
        }
    };
    let security = match flags.find("security") {
        None | Some(("sandbox", _)) => RunSecurity::Sandbox,
        Some(("insecure", _)) => RunSecurity::Insecure,
        Some((other, focus)) => {
            mistakes.note::<()>(Err(Kind::Security(other.to_owned()).at(focus)));
            RunSecurity::Sandbox
        }
    };
    mistakes.finish()?;
    let mount_flags = flags.list("mount").map(|(value, _)| value.to_owned()).collect();
    let rare = RunFlags { mount_flags, mounts, devices };
    let flags = (rare != RunFlags::default()).then(|| Box::new(rare));
    Ok(Command::Run(Box::new(Run { line: command_line(node), network, security, flags })))
}

fn expose(node: &Node) -> Result<Command, InstructionError> {
    if node.args.is_empty() {
        return Err(Kind::AtLeastOne("EXPOSE").into());
    }
    no_flags(node)?;
    let mut ports: Vec<String> = node.args.iter().map(|word| word.text.clone()).collect();
    ports.sort_unstable();
    Ok(Command::Expose(ports))
}

fn volume(node: &Node) -> Result<Command, InstructionError> {
    if node.args.is_empty() {
        return Err(Kind::AtLeastOne("VOLUME").into());
    }
    no_flags(node)?;
    let mut volumes = Vec::with_capacity(node.args.len());
    for (index, word) in node.args.iter().enumerate() {
        match word.text.trim() {
            "" => return Err(Kind::EmptyVolume.at(Focus::Argument(index))),
            volume => volumes.push(volume.to_owned()),
        }
    }
    Ok(Command::Volume(volumes))
}

fn shell(node: &Node) -> Result<Command, InstructionError> {
    no_flags(node)?;
    if node.args.is_empty() {
        return Err(Kind::AtLeastOne("SHELL").into());
    }
    if !node.json {
        return Err(Kind::NotJson("SHELL").into());
    }
    Ok(Command::Shell(node.args.iter().map(|word| word.text.clone()).collect()))
}

fn onbuild(node: &Node) -> Result<Command, InstructionError> {
    let Some(sub) = &node.sub else { return Err(Kind::AtLeastOne("ONBUILD").into()) };
    no_flags(node)?;
    match sub.keyword.text.to_uppercase().as_str() {
        "ONBUILD" => return Err(Kind::OnbuildOnbuild.into()),
        trigger @ ("MAINTAINER" | "FROM") => return Err(Kind::OnbuildTrigger(trigger.to_owned()).into()),
        _ => {}
    }
    // The text keeps the flags and the space of the trigger; only its own keyword goes.
    let keyword_end = node.keyword.end();
    let mut expression = node.original[keyword_end..].trim_start_matches(['\t', '\n', '\u{c}', '\r', ' ']).to_owned();
    for heredoc in &node.heredocs {
        expression.push('\n');
        expression.push_str(&heredoc.content);
        expression.push_str(&heredoc.name);
    }
    Ok(Command::Onbuild(expression))
}
