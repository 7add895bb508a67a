//! `onetag builder create`.

use clap::Args;
use onetag_engine::builders::{Builders, CreateOptions, LOCAL_DRIVER};

use super::platforms;
use crate::arguments::{Flag, FlagTable, Foreign, Treatment};
use crate::context::{Context, parse_platform};
use crate::error::{CommandError, CommandResult};
use crate::output;

/// Create a new builder instance
#[derive(Args, Debug)]
pub struct CreateArguments {
    /// An endpoint; onetag builds on this host only
    #[arg(value_name = "ENDPOINT", hide = true)]
    endpoint: Option<String>,
    /// Append a node to builder instead of changing it
    #[arg(long)]
    append: bool,
    /// Find out at once what the builder can run
    #[arg(long)]
    bootstrap: bool,
    /// Driver to use; onetag has one, local, and takes the name of any that builds on this host
    #[arg(long, value_name = "DRIVER")]
    driver: Option<String>,
    /// Remove a node from builder instead of changing it
    #[arg(long)]
    leave: bool,
    /// Builder instance name
    #[arg(long)]
    name: Option<String>,
    /// Create/modify node with given name
    #[arg(long)]
    node: Option<String>,
    /// Fixed platforms for current node
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    platform: Vec<String>,
    /// Set the current builder instance
    #[arg(long = "use")]
    make_current: bool,
    #[command(flatten)]
    foreign: Foreign<CreateFlags>,
}

/// Flags of `buildx create` that configure a daemon.
#[derive(Debug)]
pub struct CreateFlags;

const NO_DAEMON: Treatment = Treatment::Noted("onetag has no BuildKit daemon to configure");

impl FlagTable for CreateFlags {
    const FLAGS: &'static [Flag] = &[
        Flag::value("buildkitd-config", NO_DAEMON),
        Flag::value("config", NO_DAEMON),
        Flag::value("buildkitd-flags", NO_DAEMON),
        Flag::value("driver-opt", NO_DAEMON),
        Flag::value("timeout", Treatment::Accepted),
    ];
}

impl CreateArguments {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> CommandResult {
        self.foreign.settle()?;
        match self.driver.as_deref() {
            None | Some(LOCAL_DRIVER) => {}
            Some(driver @ ("remote" | "kubernetes" | "cloud")) => {
                return Err(CommandError::new(format!("driver {driver} is not supported"))
                    .with_hint("onetag builds on this host: leave --driver out"));
            }
            Some(driver) => {
                output::note(format!("note: driver {driver}: onetag builds in its own process, driver {LOCAL_DRIVER}"));
            }
        }
        if self.endpoint.is_some() {
            output::note("note: onetag builds on this host; the endpoint makes no difference");
        }
        let platforms = self.platform.iter().map(|text| parse_platform(text)).collect::<CommandResult<_>>()?;
        let options = CreateOptions {
            name: self.name.clone(),
            node: self.node.clone(),
            platforms,
            append: self.append,
            leave: self.leave,
        };
        let builders = Builders::new(&context.engine()?.options().root);
        let builder = builders.create(&options)?;
        if self.make_current {
            builders.make_current(&builder.name)?;
        }
        if self.bootstrap {
            platforms::found(context)?;
        }
        Ok(output::line(builder.name)?)
    }
}
