//! `onetag manifest annotate`.

use clap::Args;
use onetag_engine::index::pending::{PendingLists, PlatformChanges};

use super::{explain, reference};
use crate::context::Context;
use crate::error::CommandResult;

/// Add additional information to a local image manifest
#[derive(Args, Debug)]
pub struct AnnotateArguments {
    /// The list
    #[arg(value_name = "MANIFEST_LIST")]
    list: String,
    /// The image in it
    #[arg(value_name = "MANIFEST")]
    image: String,
    /// Set architecture
    #[arg(long, value_name = "ARCHITECTURE")]
    arch: Option<String>,
    /// Set operating system
    #[arg(long, value_name = "OS")]
    os: Option<String>,
    /// Set operating system feature
    #[arg(long, value_name = "FEATURE", value_delimiter = ',')]
    os_features: Vec<String>,
    /// Set operating system version
    #[arg(long, value_name = "VERSION")]
    os_version: Option<String>,
    /// Set architecture variant
    #[arg(long, value_name = "VARIANT")]
    variant: Option<String>,
}

impl AnnotateArguments {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> CommandResult {
        let changes = PlatformChanges {
            architecture: self.arch.clone(),
            os: self.os.clone(),
            os_features: self.os_features.clone(),
            os_version: self.os_version.clone(),
            variant: self.variant.clone(),
        };
        let lists = PendingLists::new(&context.engine()?.options().root);
        lists.annotate(&reference(&self.list)?, &reference(&self.image)?, &changes).map_err(explain)
    }
}
