//! Arguments that hold for the whole Dockerfile.

use onetag_llb::ProxyEnvironment;
use onetag_oci::Platform;

use super::environment::EnvironmentList;
use super::error::{At, DockerfileError};
use super::part::Part;
use super::{DockerfileErrorKind, LowerOptions, MAX_TEXT_BYTES};
use crate::file::Dockerfile;
use crate::instruction::Command;
use crate::shell::Lex;

/// Automatic platform arguments and the `ARG`s before the first `FROM`.
pub(crate) struct GlobalArguments {
    pub list: EnvironmentList,
    /// What is wrong with the defaults.
    pub errors: Vec<DockerfileError>,
}

impl GlobalArguments {
    pub(crate) fn new(
        file: &Dockerfile,
        options: &LowerOptions,
        target: &Platform,
        stage: &str,
        lex: &Lex,
    ) -> GlobalArguments {
        let mut list = automatic(options, target, stage);
        let (mut errors, mut bytes) = (Vec::new(), 0);
        for instruction in &file.meta_args {
            let Command::Arg(arg) = &instruction.command else { continue };
            for definition in &arg.args {
                let value = match (options.build_args.get(&definition.key), &definition.value) {
                    (Some(given), _) => Some(given.clone()),
                    (None, Some(default)) => {
                        let expanded = lex.process_word(default, &list).about(|| Part::Text(default.clone()));
                        expanded
                            .at(Some(instruction.lines))
                            .map_err(|error| errors.push(error))
                            .ok()
                            .map(|word| word.value)
                    }
                    (None, None) => None,
                };
                if let Some(value) = value {
                    bytes += value.len();
                    list.set(&definition.key, &value);
                }
                if bytes > MAX_TEXT_BYTES {
                    let error = DockerfileError::from(DockerfileErrorKind::TooLarge);
                    errors.extend(Err::<(), _>(error).at(Some(instruction.lines)).err());
                    return GlobalArguments { list, errors };
                }
            }
        }
        GlobalArguments { list, errors }
    }
}

fn automatic(options: &LowerOptions, target: &Platform, stage: &str) -> EnvironmentList {
    let build = &options.build_platform;
    let stage = if stage.is_empty() { "default" } else { stage };
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let mut list = EnvironmentList::default();
    for (name, value) in [
        ("BUILDPLATFORM", build.to_string()),
        ("BUILDOS", build.os.clone()),
        ("BUILDOSVERSION", text(&build.os_version)),
        ("BUILDARCH", build.architecture.clone()),
        ("BUILDVARIANT", text(&build.variant)),
        ("TARGETPLATFORM", target.format_all()),
        ("TARGETOS", target.os.clone()),
        ("TARGETOSVERSION", text(&target.os_version)),
        ("TARGETARCH", target.architecture.clone()),
        ("TARGETVARIANT", text(&target.variant)),
        ("TARGETSTAGE", stage.to_owned()),
    ] {
        list.set(name, options.build_args.get(name).unwrap_or(&value));
    }
    list
}

/// The proxy variables among the build arguments. They reach every step without counting for the cache.
pub(crate) fn proxy(options: &LowerOptions) -> Option<ProxyEnvironment> {
    let mut proxy = ProxyEnvironment::default();
    let mut is_set = false;
    for (name, value) in &options.build_args {
        let place = match name.to_lowercase().as_str() {
            "http_proxy" => &mut proxy.http,
            "https_proxy" => &mut proxy.https,
            "ftp_proxy" => &mut proxy.ftp,
            "no_proxy" => &mut proxy.no,
            "all_proxy" => &mut proxy.all,
            _ => continue,
        };
        place.clone_from(value);
        is_set = true;
    }
    is_set.then_some(proxy)
}
