//! A build through the library alone: `build [buildx's flags] CONTEXT`, with the store in `$ONETAG_ROOT`.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use onetag_dockerfile::NoCache;
use onetag_engine::build::{BuildRequest, DockerfileSource};
use onetag_engine::export::{ExportOptions, SharedWriter, Target};
use onetag_engine::flags;
use onetag_engine::progress::{Cancellation, Event};
use onetag_engine::{Engine, EngineOptions};
use onetag_llb::{HostIp, NetworkMode};
use onetag_oci::{Platform, Reference};

/// Flags by name, in the order given; the context has none.
fn read_arguments() -> Result<BTreeMap<String, Vec<String>>, Box<dyn Error>> {
    let mut flags: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut arguments = std::env::args().skip(1).skip_while(|word| word == "build");
    while let Some(argument) = arguments.next() {
        let (name, value) = match argument.strip_prefix('-') {
            None => (String::new(), argument),
            Some(name) => match name.trim_start_matches('-').split_once('=') {
                Some((name, value)) => (name.to_owned(), value.to_owned()),
                None if matches!(name, "-no-cache" | "-push" | "-load" | "-pull" | "-keep-going") => {
                    (name[1..].to_owned(), String::new())
                }
                None => (name.trim_start_matches('-').to_owned(), arguments.next().ok_or("a flag without value")?),
            },
        };
        flags.entry(name).or_default().push(value);
    }
    Ok(flags)
}

fn pairs(values: &[String]) -> BTreeMap<String, String> {
    let pair = |value: &String| match value.split_once('=') {
        Some((name, value)) => Some((name.to_owned(), value.to_owned())),
        None => std::env::var(value).ok().map(|content| (value.clone(), content)),
    };
    values.iter().filter_map(pair).collect()
}

fn request(arguments: &BTreeMap<String, Vec<String>>) -> Result<BuildRequest, Box<dyn Error>> {
    let all = |name: &str| arguments.get(name).cloned().unwrap_or_default();
    let last = |name: &str| all(name).pop();
    let mut request = BuildRequest::new(PathBuf::from(last("").ok_or("no context")?));
    if let Some(file) = last("f") {
        request.dockerfile = DockerfileSource::Path(file.into());
    }
    request.platforms = flags::parse_platforms(&all("platform"), &Platform::host())?;
    for tag in [all("t"), all("tag")].concat() {
        request.tags.push(Reference::parse(&tag)?.with_default_tag());
    }
    request.target = last("target");
    request.build_args = pairs(&all("build-arg"));
    if let Ok(epoch) = std::env::var("SOURCE_DATE_EPOCH") {
        request.build_args.entry("SOURCE_DATE_EPOCH".to_owned()).or_insert(epoch);
    }
    request.labels = pairs(&all("label"));
    request.annotations = all("annotation");
    request.build_contexts = flags::parse_contexts(&all("build-context"))?;
    request.keep_going = last("keep-going").is_some();
    if last("no-cache").is_some() {
        request.no_cache = NoCache::Always;
    } else if last("no-cache-filter").is_some() {
        let stages = all("no-cache-filter").iter().flat_map(|list| list.split(',').map(str::to_owned)).collect();
        request.no_cache = NoCache::Stages(stages);
    }
    request.pull = last("pull").is_some();
    request.network = match last("network").as_deref() {
        Some("none") => NetworkMode::None,
        Some("host") => NetworkMode::Host,
        _ => NetworkMode::Sandbox,
    };
    for host in all("add-host") {
        let (host, ip) = host.split_once(['=', ':']).ok_or("a host without address")?;
        request.extra_hosts.push(HostIp { host: host.to_owned(), ip: ip.trim_matches(['[', ']']).to_owned() });
    }
    for secret in flags::parse_secrets(&all("secret"))? {
        let content = match std::env::var(&secret.variable) {
            Ok(value) if secret.path.is_empty() => value.into_bytes(),
            _ => std::fs::read(Path::new(&secret.path))?,
        };
        request.secrets.insert(secret.id, content);
    }
    let stream: SharedWriter = Arc::new(Mutex::new(Box::new(std::io::stdout())));
    for output in flags::parse_outputs(&[all("o"), all("output")].concat())? {
        request.outputs.extend(ExportOptions::parse(&output, Some(&stream))?);
    }
    if last("push").is_some() {
        request.outputs.push(ExportOptions::new(Target::Push));
    }
    if last("load").is_some() {
        request.outputs.push(ExportOptions::new(Target::Store));
    }
    Ok(request)
}

fn main() -> Result<(), Box<dyn Error>> {
    onetag_sandbox::init_if_requested();
    let arguments = read_arguments()?;
    let search_path = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    let root = std::env::var_os("ONETAG_ROOT").ok_or("ONETAG_ROOT is not set")?.into();
    let engine = Engine::open(EngineOptions { root, search_path, ..EngineOptions::default() });
    let request = request(&arguments)?;
    let names = Mutex::new(BTreeMap::new());
    let is_quiet = std::env::var_os("QUIET").is_some();
    let print = |event: Event| {
        let name = |digest| names.lock().ok().and_then(|names| names.get(digest).cloned()).unwrap_or_default();
        match &event {
            Event::Planned(vertices) => {
                if let Ok(mut names) = names.lock() {
                    names.extend(vertices.iter().map(|vertex| (vertex.digest.clone(), vertex.name.clone())));
                }
            }
            _ if is_quiet => {}
            Event::Started { vertex, .. } => eprintln!("started   {}", name(vertex)),
            Event::Cached { vertex, .. } => eprintln!("CACHED    {}", name(vertex)),
            Event::Completed { vertex, error, .. } => eprintln!("completed {} {error:?}", name(vertex)),
            Event::Log { data, .. } => eprint!("{}", String::from_utf8_lossy(data)),
            Event::Status { status, .. } => eprintln!("          {}", status.id),
            Event::Warning { message, .. } => eprintln!("warning: {message}"),
        }
    };
    match engine.build(&request, &Cancellation::new(), &print) {
        Ok(outcome) => {
            eprintln!("{:?}", outcome.descriptor.map(|descriptor| descriptor.digest));
            Ok(())
        }
        Err(error) => {
            eprint!("{}", error.excerpt().unwrap_or_default());
            let mut text = error.to_string();
            let mut cause = Error::source(&error);
            while let Some(error) = cause {
                text += &format!(": {error}");
                cause = error.source();
            }
            eprintln!("ERROR: failed to build: {text}");
            for hint in error.hints() {
                eprintln!("hint: {hint}");
            }
            std::process::exit(1)
        }
    }
}
