//! `onetag tag`.

use clap::Args;

use super::ways_out::image_error;
use crate::context::{Context, parse_platform};
use crate::error::CommandResult;

/// Create a tag TARGET that refers to SOURCE
#[derive(Args, Debug)]
pub struct TagArguments {
    /// An image: name or digest
    #[arg(value_name = "SOURCE")]
    source: String,
    /// The new name
    #[arg(value_name = "TARGET")]
    target: String,
    /// Name one platform of the image, without the index
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
}

impl TagArguments {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> CommandResult {
        context.enter_namespace()?;
        let platform = self.platform.as_deref().map(parse_platform).transpose()?;
        onetag_engine::images::tag(context.engine()?.store()?, &self.source, platform.as_ref(), &self.target)
            .map_err(|error| image_error(error, "tag"))?;
        Ok(())
    }
}
