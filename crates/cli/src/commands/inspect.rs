//! `onetag image inspect`: Docker's JSON.

use clap::Args;
use onetag_engine::images::{Inspected, inspect};
use onetag_oci::{Reference, go_json_indent};
use serde_json::{Map, Value as Json, json};

use super::ways_out::image_error;
use crate::arguments::{Flag, FlagTable, Foreign, Treatment};
use crate::context::{Context, parse_platforms};
use crate::error::{CommandError, CommandResult, Voice};
use crate::output;
use crate::template::{JsonStyle, Template, Value};

/// Display detailed information on one or more images
#[derive(Args, Debug)]
pub struct InspectArguments {
    /// Images: names or digests
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// Format output: json, or a Go template
    #[arg(long, short, value_name = "FORMAT")]
    format: Option<String>,
    /// Inspect specific platforms of the multi-platform image
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    platform: Vec<String>,
    #[command(flatten)]
    foreign: Foreign<InspectFlags>,
}

/// Flags of `docker inspect`.
#[derive(Debug)]
pub struct InspectFlags;

impl FlagTable for InspectFlags {
    const FLAGS: &'static [Flag] =
        &[Flag::value("type", Treatment::Accepted), Flag::switch("size", Treatment::Accepted).short('s')];
}

impl InspectArguments {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> CommandResult {
        self.foreign.settle()?;
        let mut platforms: Vec<_> = parse_platforms(&self.platform)?.into_iter().map(Some).collect();
        if platforms.is_empty() {
            platforms.push(context.platform(None)?);
        }
        let store = context.engine()?.store()?;
        let mut documents = Vec::new();
        let mut failure: Option<CommandError> = None;
        let wanted = self.images.iter().flat_map(|image| platforms.iter().map(move |platform| (image, platform)));
        for (image, platform) in wanted {
            match inspect(store, image, platform.as_ref()) {
                Ok(inspected) => {
                    documents.push(document(&inspected, |digest| store.blob_path(digest).display().to_string()))
                }
                Err(error) => {
                    if let Some(earlier) = failure.replace(image_error(error, "image inspect")) {
                        output::note(earlier.render(Voice::Own).trim_end());
                    }
                }
            }
        }
        match self.format.as_deref() {
            None | Some("") => {
                let mut text = go_json_indent(&documents, "    ");
                text.push(b'\n');
                output::write(text)?;
            }
            Some("json") => {
                for document in &documents {
                    output::line(String::from_utf8_lossy(&onetag_oci::go_json(document)))?;
                }
            }
            Some(format) => {
                let template = Template::parse(format)?;
                for document in &documents {
                    output::line(template.execute(&Value::from_json(document), JsonStyle::Compact)?)?;
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }
}

/// The fields that Docker has, in its order.
fn document(inspected: &Inspected, path: impl Fn(&onetag_oci::Digest) -> String) -> Json {
    let chosen = &inspected.chosen;
    let config = &chosen.config;
    let references: Vec<Reference> = inspected.image.references().collect();
    let digest = &inspected.image.descriptor.digest;
    let tags: Vec<String> = references.iter().filter(|name| name.tag().is_some()).map(Reference::familiar).collect();
    let mut digests: Vec<String> = references.iter().map(|name| format!("{}@{digest}", name.familiar_name())).collect();
    digests.dedup();
    let mut out = Map::new();
    let mut put = |key: &str, value: Json| {
        out.insert(key.to_owned(), value);
    };
    put("Id", json!(digest));
    put("RepoTags", json!(tags));
    put("RepoDigests", json!(digests));
    put("Comment", json!(config.history.last().and_then(|entry| entry.comment.clone()).unwrap_or_default()));
    if let Some(created) = &config.created {
        put("Created", json!(created));
    }
    put("Author", json!(config.author.clone().unwrap_or_default()));
    put("Config", container_config(&chosen.config));
    put("Architecture", json!(config.architecture));
    if let Some(variant) = config.variant.as_ref().filter(|variant| !variant.is_empty()) {
        put("Variant", json!(variant));
    }
    put("Os", json!(config.os));
    if let Some(version) = config.os_version.as_ref().filter(|version| !version.is_empty()) {
        put("OsVersion", json!(version));
    }
    put("Size", json!(inspected.size));
    put("RootFS", json!({"Type": "layers", "Layers": config.rootfs.diff_ids}));
    put("Metadata", json!({"LastTagTime": "0001-01-01T00:00:00Z"}));
    put(
        "Descriptor",
        json!({
            "mediaType": inspected.image.descriptor.media_type,
            "digest": digest,
            "size": inspected.image.descriptor.size,
        }),
    );
    put(
        "Platform",
        json!({
            "os": chosen.platform.os,
            "architecture": chosen.platform.architecture,
            "variant": chosen.platform.variant,
            "digest": chosen.entry.descriptor.digest,
            "path": path(&chosen.entry.descriptor.digest),
        }),
    );
    Json::Object(out)
}

/// The config as it is written, but with the fields that scripts rely on always there.
fn container_config(config: &onetag_oci::ImageConfig) -> Json {
    let written = serde_json::to_value(&config.config).unwrap_or_default();
    let written = written.as_object().cloned().unwrap_or_default();
    let mut out = Map::new();
    let defaults = [
        ("User", json!("")),
        ("ExposedPorts", Json::Null),
        ("Env", Json::Null),
        ("Cmd", Json::Null),
        ("Healthcheck", Json::Null),
        ("ArgsEscaped", Json::Null),
        ("Volumes", Json::Null),
        ("WorkingDir", json!("")),
        ("Entrypoint", Json::Null),
        ("OnBuild", Json::Null),
        ("Labels", Json::Null),
        ("StopSignal", Json::Null),
        ("Shell", Json::Null),
    ];
    let optional = ["ExposedPorts", "Healthcheck", "ArgsEscaped", "Volumes", "StopSignal", "Shell"];
    for (key, default) in defaults {
        match written.get(key) {
            Some(value) => {
                out.insert(key.to_owned(), value.clone());
            }
            None if optional.contains(&key) => {}
            None => {
                out.insert(key.to_owned(), default);
            }
        }
    }
    for (key, value) in written {
        out.entry(key).or_insert(value);
    }
    Json::Object(out)
}
