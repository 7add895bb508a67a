//! `onetag manifest inspect`.

use clap::Args;
use onetag_engine::content::{Contents, Location};
use onetag_engine::index::pending::{ImageManifest, PendingError, PendingLists, fetch, fetch_list, list_document};
use serde_json::Value;

use super::{explain, note_insecure, reference};
use crate::context::Context;
use crate::error::{CommandError, CommandResult};
use crate::output;

/// Display an image manifest, or manifest list
#[derive(Args, Debug)]
pub struct InspectArguments {
    /// The image or list; with two names, the list that the image is in comes first
    #[arg(value_name = "[MANIFEST_LIST] MANIFEST", required = true, num_args = 1..=2)]
    names: Vec<String>,
    /// Allow communication with an insecure registry
    #[arg(long)]
    insecure: bool,
    /// Output additional info including layers and platform
    #[arg(long, short)]
    verbose: bool,
}

impl InspectArguments {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> CommandResult {
        note_insecure(self.insecure);
        let engine = context.engine()?;
        let lists = PendingLists::new(&engine.options().root);
        let (list, name) = match self.names.as_slice() {
            [list, name] => (Some(reference(list)?), reference(name)?),
            [name, ..] => (None, reference(name)?),
            [] => return Err(CommandError::new("the name of an image is needed")),
        };
        if let Some(list) = list {
            return self.image(&lists.get(&list, &name).map_err(explain)?);
        }
        match lists.list(&name) {
            Err(PendingError::NotFound { .. }) => {}
            images => return self.list(&images.map_err(explain)?),
        }
        let found =
            Contents::new(engine).find(&Location::Registry(name.clone())).map_err(|error| explain(error.into()))?;
        if found.document.as_index().is_some() {
            return self.list(&fetch_list(engine, &name, &found).map_err(explain)?);
        }
        self.image(&fetch(engine, &name).map_err(explain)?)
    }

    fn image(&self, image: &ImageManifest) -> CommandResult {
        if self.verbose {
            return print(image);
        }
        let raw: Value = serde_json::from_slice(&image.bytes())?;
        print(&raw)
    }

    fn list(&self, images: &[ImageManifest]) -> CommandResult {
        if self.verbose {
            return print(images);
        }
        let mut text = list_document(images);
        text.push(b'\n');
        Ok(output::write(text)?)
    }
}

/// Indented as Docker does.
fn print(value: &(impl serde::Serialize + ?Sized)) -> CommandResult {
    let mut text = onetag_oci::go_json_indent(value, "\t");
    text.push(b'\n');
    Ok(output::write(text)?)
}
