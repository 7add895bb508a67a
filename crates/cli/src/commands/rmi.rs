//! `onetag rmi`.

use clap::Args;
use onetag_engine::images::{ImageError, remove};

use super::ways_out::image_error;
use crate::context::{Context, parse_platforms};
use crate::error::CommandResult;
use crate::output;

/// Remove one or more images, or platforms of them
#[derive(Args, Debug)]
pub struct RemoveArguments {
    /// Images: names or digests
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// Remove an image by digest even if it has several names, a platform even if it is part of other images
    #[arg(long, short)]
    force: bool,
    /// Do not delete untagged parents: there are none
    #[arg(long)]
    no_prune: bool,
    /// Remove only these platforms of the image; its index stays as it is
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    platform: Vec<String>,
}

impl RemoveArguments {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> CommandResult {
        context.enter_namespace()?;
        let platforms = parse_platforms(&self.platform)?;
        let store = context.engine()?.store()?;
        let mut failure = None;
        for image in &self.images {
            match remove(store, image, &platforms, self.force) {
                Ok(removal) => {
                    for name in removal.untagged {
                        output::line(format!("Untagged: {name}"))?;
                    }
                    for digest in removal.deleted {
                        output::line(format!("Deleted: {digest}"))?;
                    }
                }
                Err(ImageError::NotFound { .. } | ImageError::NotHere { .. }) if self.force => {}
                Err(error) => {
                    let error = image_error(error, "rmi");
                    // the others are removed all the same; the last error decides how the command ends
                    if let Some(earlier) = failure.replace(error) {
                        output::note(earlier.render(crate::error::Voice::Own).trim_end());
                    }
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }
}
