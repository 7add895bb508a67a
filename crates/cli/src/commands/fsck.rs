//! `onetag fsck`.

use std::io::{Cursor, Read};

use clap::Args;
use onetag_engine::content::{Contents, Location};
use onetag_oci::{Descriptor, Reference};
use onetag_store::Finding;

use crate::context::Context;
use crate::error::{CommandError, CommandResult};
use crate::output;

/// Content larger than this is not fetched again, in bytes.
const LIMIT: u64 = 4 << 30;

/// Check the store: every blob, name and unpacked layer
#[derive(Args, Debug)]
pub struct CheckArguments {
    /// Take damaged content away and fetch it again from where it came
    #[arg(long)]
    repair: bool,
}

impl CheckArguments {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> CommandResult {
        context.enter_namespace()?;
        let engine = context.engine()?;
        let store = engine.store()?;
        let report = store.check()?;
        for (name, absent) in &report.absent {
            let platform = absent.platform.as_ref().map(ToString::to_string).unwrap_or_default();
            output::note(format!("note: {name}: {platform} is not here ({})", absent.digest));
        }
        let count = report.findings.len();
        report.findings.iter().for_each(tell);
        let mut left = report.findings;
        if self.repair && count > 0 {
            let contents = Contents::new(engine);
            left = store.repair(left, &mut |descriptor, images| fetch(&contents, descriptor, images))?;
            output::note(format!("{} of {count} mended", count - left.len()));
        }
        output::line(format!("{} blobs and {} unpacked layers checked", report.blobs, report.trees))?;
        if left.is_empty() {
            return Ok(());
        }
        let error = CommandError::new(format!("{} things are damaged", left.len()));
        if self.repair {
            return Err(error.with_hint("onetag pull IMAGE    (or remove it: onetag rmi IMAGE)"));
        }
        Err(error.with_hint("onetag fsck --repair"))
    }
}

fn tell(finding: &Finding) {
    let images = if finding.images.is_empty() { String::new() } else { format!(" ({})", finding.images.join(", ")) };
    output::note(format!("{}{images}", finding.damage));
}

/// A blob from the registry of the first image that has it there.
fn fetch(contents: &Contents<'_>, descriptor: &Descriptor, images: &[String]) -> Option<Box<dyn Read>> {
    images.iter().find_map(|image| {
        let location = Location::Registry(Reference::parse(image).ok()?);
        let blob = contents.blob(&location, descriptor, LIMIT);
        // a manifest is no blob to registries
        let bytes = match blob {
            Ok(bytes) => bytes,
            Err(_) => contents.document(&location, descriptor).ok()?.document.bytes().to_vec(),
        };
        Some(Box::new(Cursor::new(bytes)) as Box<dyn Read>)
    })
}
