//! Runs a command in a root file system: `run [--platform P] [--network host|none|own] [--times N] [--terminal] [--pid-one] ROOTFS COMMAND…`.
//!
//! Shows the order of things that the crate asks for, and measures: with `--times` the command runs so often and the mean is printed.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::Instant;

use onetag_oci::Platform;
use onetag_sandbox::{
    Network, NetworkMode, ProcessSpec, RootFs, Sandbox, SandboxOptions, Stdio, enter_user_namespace, examine,
    init_if_requested,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    init_if_requested();
    let begin = Instant::now();
    let entered = enter_user_namespace()?;
    let entering = begin.elapsed();
    let path: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    let mut platform = Platform::host();
    let (mut network, mut times, mut terminal, mut init) = (NetworkMode::Host, 1u32, None, true);
    let mut arguments = std::env::args().skip(1).peekable();
    let mut user = String::new();
    while let Some(option) = arguments.next_if(|argument| argument.starts_with("--")) {
        match option.as_str() {
            "--platform" => platform = arguments.next().ok_or("a platform is missing")?.parse()?,
            "--network" => {
                network = match arguments.next().as_deref() {
                    Some("none") => NetworkMode::None,
                    Some("host") => NetworkMode::Host,
                    _ => NetworkMode::Shared(Network::start(&path)?),
                }
            }
            "--times" => times = arguments.next().ok_or("a number is missing")?.parse()?,
            "--user" => user = arguments.next().ok_or("a user is missing")?,
            "--terminal" => terminal = Some((24, 80)),
            "--pid-one" => init = false,
            other => return Err(format!("unknown option {other}").into()),
        }
    }
    let sandbox = Sandbox::new(SandboxOptions { search_path: path.clone(), ..SandboxOptions::default() });
    let Some(root) = arguments.next() else {
        let begin = Instant::now();
        for support in sandbox.platforms() {
            println!("{:<16} {:?}", support.platform.to_string(), support.how);
        }
        eprintln!("{entered:?} {entering:?} {:?}", begin.elapsed());
        for finding in examine(&sandbox, &Ok(entered), &std::env::temp_dir(), &path).findings {
            println!(
                "{:?} {}: {} {}",
                finding.verdict,
                finding.subject,
                finding.detail,
                finding.hint.unwrap_or_default()
            );
        }
        return Ok(());
    };
    let root = PathBuf::from(root).canonicalize()?;
    let command: Vec<String> = arguments.collect();
    let scratch = std::env::temp_dir().join(format!("sandbox-example-{}", std::process::id()));
    std::fs::create_dir_all(&scratch)?;
    let begin = Instant::now();
    sandbox.prepare(std::slice::from_ref(&platform))?;
    let preparing = begin.elapsed();
    let begin = Instant::now();
    let mut status = 0;
    for index in 0..times {
        let folder = scratch.join(index.to_string());
        let (upper, work) = (folder.join("upper"), folder.join("work"));
        std::fs::create_dir_all(&upper)?;
        std::fs::create_dir_all(&work)?;
        let rootfs = RootFs::Overlay { lowers: vec![root.clone()], upper, work, volatile: true };
        let mut spec = ProcessSpec::new(rootfs, command.clone());
        spec.platform = platform.clone();
        spec.network = network.clone();
        spec.terminal = terminal;
        spec.init = init;
        spec.user.clone_from(&user);
        (spec.stdin, spec.stdout, spec.stderr) = (Stdio::Inherit, Stdio::Inherit, Stdio::Inherit);
        let process = sandbox.spawn(&spec)?;
        if let Some(mut terminal) = process.terminal.as_ref() {
            let mut buffer = [0; 4096];
            while let Ok(count) = terminal.read(&mut buffer) {
                if count == 0 {
                    break;
                }
                std::io::stdout().write_all(&buffer[..count])?;
            }
        }
        status = process.wait()?.exit_code();
    }
    let each = begin.elapsed() / times;
    eprintln!("{entered:?} in {entering:?}, prepared in {preparing:?}, {times} × {each:?}");
    std::fs::remove_dir_all(&scratch)?;
    std::process::exit(status)
}
