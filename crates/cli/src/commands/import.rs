//! `onetag import`.

use std::fs::File;
use std::io::Read;

use clap::Args;
use onetag_engine::import::{ImportRequest, import};
use onetag_oci::{Platform, Reference};

use super::changes;
use crate::context::{Context, parse_platform};
use crate::error::{CommandError, CommandResult};
use crate::output;

/// Make an image of a root file system
#[derive(Args, Debug)]
pub struct ImportArguments {
    /// A tar archive, compressed or not; `-` is standard input
    #[arg(value_name = "FILE|-")]
    source: String,
    /// The image's name
    #[arg(value_name = "NAME[:TAG]")]
    name: Option<String>,
    /// Apply Dockerfile instruction to the created image
    #[arg(long, short, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Set commit message for imported image
    #[arg(long, short, value_name = "TEXT")]
    message: Option<String>,
    /// The platform that the files are for; the host's where it is not given
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
}

impl ImportArguments {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> CommandResult {
        context.enter_namespace()?;
        let platform = match &self.platform {
            Some(text) => parse_platform(text)?,
            None => Platform::host(),
        };
        let request = ImportRequest {
            config: changes::apply(&self.change, &platform)?,
            platform: platform.normalize(),
            name: self.name.as_deref().map(Reference::parse).transpose()?,
            message: self.message.clone(),
            created: created(),
        };
        let archive: Box<dyn Read + Send> = match self.source.as_str() {
            "-" => Box::new(std::io::stdin()),
            url if url.starts_with("http://") || url.starts_with("https://") => {
                return Err(CommandError::new("importing from a URL is not supported")
                    .with_hint(format!("curl -L {url} | onetag import - NAME")));
            }
            path => Box::new(
                File::open(path).map_err(|error| CommandError::from(error).context(format!("cannot open {path}")))?,
            ),
        };
        let descriptor = import(context.engine()?, archive, &request)?;
        Ok(output::line(descriptor.digest.as_str())?)
    }
}

/// Now, or what SOURCE_DATE_EPOCH says.
fn created() -> String {
    let epoch = crate::context::variable("SOURCE_DATE_EPOCH").and_then(|text| text.parse().ok());
    let time = epoch.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    time.unwrap_or_else(jiff::Timestamp::now).to_string()
}
