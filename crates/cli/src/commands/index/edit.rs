//! `onetag index edit`.

use clap::Args;
use onetag_engine::content::{ContentError, Location};
use onetag_engine::flags::parse_annotations;
use onetag_engine::index::edit::{
    AnnotationRemoval, ConfigChanges, EditError, EditRequest, PlatformSource, Removal, plan_edit, publish_edit,
};
use onetag_oci::{Digest, Platform};

use super::difference;
use crate::commands::copy::parse_location;
use crate::commands::registry_error;
use crate::context::{Context, parse_platform};
use crate::error::{CommandError, CommandResult};
use crate::interrupt;
use crate::output;

/// Change platforms, labels, variables, annotations and commands of an index, in place
///
/// Children that do not change stay what they are, to the byte. Attestations of those that change are left out: they
/// are about the image before.
#[derive(Args, Debug)]
pub struct EditArguments {
    /// The index: NAME, store:NAME or oci:PATH[:NAME]
    #[arg(value_name = "NAME")]
    name: String,
    /// Add the images of SOURCE, or that of one platform
    #[arg(long, value_name = "SOURCE[@PLATFORM]")]
    add: Vec<String>,
    /// Put the images of SOURCE in the place of those of the same platforms
    #[arg(long, value_name = "SOURCE[@PLATFORM]")]
    replace: Vec<String>,
    /// Take a platform, or an entry by its digest, out
    #[arg(long, value_name = "PLATFORM|DIGEST", value_delimiter = ',')]
    remove: Vec<String>,
    /// Change the images of these platforms only
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    platform: Vec<String>,
    /// Set a label
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Take a label away
    #[arg(long, value_name = "KEY")]
    remove_label: Vec<String>,
    /// Set an environment variable
    #[arg(long, short, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Take an environment variable away
    #[arg(long, value_name = "NAME")]
    remove_env: Vec<String>,
    /// Set an annotation (types: manifest, index, manifest-descriptor; manifest unless told)
    #[arg(long, value_name = "[TYPE[PLATFORM]:]KEY=VALUE")]
    annotation: Vec<String>,
    /// Take an annotation away
    #[arg(long, value_name = "[TYPE[PLATFORM]:]KEY")]
    remove_annotation: Vec<String>,
    /// Set the entrypoint: a program, or a JSON array; empty takes it away
    #[arg(long, value_name = "PROGRAM|JSON")]
    entrypoint: Option<String>,
    /// Set the default command: a program, or a JSON array; empty takes it away
    #[arg(long, value_name = "PROGRAM|JSON")]
    cmd: Option<String>,
    /// Set the user; empty takes it away
    #[arg(long, short, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Set the working directory; empty takes it away
    #[arg(long, short, visible_alias = "workingdir", value_name = "PATH")]
    workdir: Option<String>,
    /// Publish under another name, and leave NAME as it is
    #[arg(long, short, value_name = "NAME")]
    tag: Vec<String>,
    /// Show what would be different, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Show what is different as JSON
    #[arg(long)]
    json: bool,
    /// Print the digest alone
    #[arg(long, short)]
    quiet: bool,
}

impl EditArguments {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> CommandResult {
        let request = self.request()?;
        let places = request.tags.iter().chain([&request.target]);
        if places.into_iter().any(|place| matches!(place, Location::Store(_))) && !self.dry_run {
            context.enter_namespace()?;
        }
        let engine = context.engine()?;
        let edited = plan_edit(engine, &request).map_err(|error| self.explain(error))?;
        let needs_publishing = !edited.is_unchanged() || !request.tags.is_empty();
        if !self.dry_run && needs_publishing {
            let cancel = interrupt::listen();
            let published = publish_edit(engine, &request, &edited, &cancel, &|_| {});
            if cancel.is_cancelled() {
                return Err(CommandError::interrupted());
            }
            published.map_err(|error| self.explain(error))?;
        }
        if self.json {
            let mut json = onetag_oci::go_json_indent(&difference::json(&request, &edited), "  ");
            json.push(b'\n');
            return Ok(output::write(json)?);
        }
        if self.dry_run {
            return Ok(output::write(difference::text(&request, &edited))?);
        }
        if !self.quiet {
            output::note(difference::text(&request, &edited).trim_end());
        }
        Ok(output::line(edited.after.document.digest().as_str())?)
    }

    fn request(&self) -> CommandResult<EditRequest> {
        let mut request = EditRequest::new(parse_location(&self.name)?);
        request.tags = self.tag.iter().map(|tag| parse_location(tag)).collect::<CommandResult<_>>()?;
        request.add = self.add.iter().map(|text| source(text)).collect::<CommandResult<_>>()?;
        request.replace = self.replace.iter().map(|text| source(text)).collect::<CommandResult<_>>()?;
        request.remove = self.remove.iter().map(|text| removal(text)).collect::<CommandResult<_>>()?;
        request.platforms = self.platform.iter().map(|text| parse_platform(text)).collect::<CommandResult<_>>()?;
        request.config = self.changes()?;
        request.annotations = parse_annotations(&self.annotation, &Platform::host())
            .map_err(|error| CommandError::from(error).context("failed to parse annotations"))?;
        for text in &self.remove_annotation {
            let parsed = parse_annotations(&[format!("{text}=")], &Platform::host())
                .map_err(|error| CommandError::from(error).context("failed to parse annotations"))?;
            request.remove_annotations.extend(parsed.into_iter().map(|annotation| AnnotationRemoval {
                target: annotation.target,
                platform: annotation.platform,
                key: annotation.key,
            }));
        }
        let names_changes =
            !request.config.is_empty() || !request.annotations.is_empty() || !request.remove_annotations.is_empty();
        if !request.platforms.is_empty() && !names_changes {
            return Err(CommandError::new("--platform says whose images change, and no change is named")
                .with_hint("--label KEY=VALUE, --env NAME=VALUE, … ; --remove PLATFORM takes a platform out"));
        }
        Ok(request)
    }

    fn changes(&self) -> CommandResult<ConfigChanges> {
        let mut changes = ConfigChanges::default();
        for key in &self.remove_label {
            changes.labels.insert(key.clone(), None);
        }
        for text in &self.label {
            let (key, value) = pair("label", text)?;
            changes.labels.insert(key, Some(value));
        }
        changes.variables.extend(self.remove_env.iter().map(|name| (name.clone(), None)));
        for text in &self.env {
            let (name, value) = pair("env", text)?;
            changes.variables.push((name, Some(value)));
        }
        changes.entrypoint = self.entrypoint.as_deref().map(|text| words("entrypoint", text)).transpose()?;
        changes.command = self.cmd.as_deref().map(|text| words("cmd", text)).transpose()?;
        changes.user.clone_from(&self.user);
        changes.working_folder.clone_from(&self.workdir);
        if let Some(folder) = changes.working_folder.as_deref().filter(|folder| !folder.is_empty())
            && !folder.starts_with('/')
        {
            return Err(CommandError::new(format!("--workdir {folder:?} is no absolute path"))
                .with_hint(format!("--workdir /{folder}")));
        }
        Ok(changes)
    }

    fn explain(&self, error: EditError) -> CommandError {
        let name = &self.name;
        let hint = match &error {
            EditError::NoIndex { .. } => {
                Some(format!("onetag imagetools create -t {name} {name}    (makes an index of it)"))
            }
            EditError::NoPlatform { wanted, .. } if self.replace.iter().any(|text| text.ends_with(wanted.as_str())) => {
                Some("--add in place of --replace adds a platform".to_owned())
            }
            EditError::Exists { platform, .. } => {
                Some(format!("--replace in place of --add puts another image in the place of {platform}"))
            }
            EditError::NoAnnotations { .. } => {
                Some("--label puts the same into the config, which Docker's documents have".to_owned())
            }
            EditError::NoName { .. } => Some("-t NAME:TAG publishes the new index under a name".to_owned()),
            EditError::Content(ContentError::Moved { .. }) => {
                Some("run the command again: it begins with the index as it is now".to_owned())
            }
            _ => None,
        };
        hint.into_iter().fold(registry_error(error), CommandError::with_hint)
    }
}

fn pair(flag: &str, text: &str) -> CommandResult<(String, String)> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(CommandError::new(format!("--{flag} {text:?} is not KEY=VALUE"))
            .with_hint(format!("--{flag} {text}=VALUE, or --remove-{flag} {text}"))),
    }
}

/// A program with its arguments. Words are not split: nobody can tell whether a shell was meant.
fn words(flag: &str, text: &str) -> CommandResult<Vec<String>> {
    let text = text.trim();
    if text.starts_with('[') {
        return serde_json::from_str(text).map_err(|error| {
            CommandError::from(error)
                .context(format!("--{flag} {text} is no JSON array of texts"))
                .with_hint(format!("--{flag} '[\"/bin/program\", \"argument\"]'"))
        });
    }
    if text.contains(char::is_whitespace) {
        let listed: Vec<String> = text.split_whitespace().map(|word| format!("{word:?}")).collect();
        return Err(CommandError::new(format!(
            "--{flag} {text:?}: a program with arguments is written as a JSON array"
        ))
        .with_hint(format!("--{flag} '[{}]'", listed.join(", "))));
    }
    Ok(Some(text.to_owned()).filter(|text| !text.is_empty()).into_iter().collect())
}

/// `SOURCE[@PLATFORM]`; what comes after the last `@` is a digest when it has a colon.
fn source(text: &str) -> CommandResult<PlatformSource> {
    let (location, platform) = match text.rsplit_once('@') {
        Some((location, platform)) if !platform.contains(':') => (location, Some(parse_platform(platform)?)),
        _ => (text, None),
    };
    Ok(PlatformSource { location: parse_location(location)?, platform })
}

fn removal(text: &str) -> CommandResult<Removal> {
    match text.contains(':') {
        true => Ok(Removal::Digest(text.parse::<Digest>().map_err(|error| {
            CommandError::from(error).context(format!("--remove {text:?} is neither a platform nor a digest"))
        })?)),
        false => parse_platform(text).map(Removal::Platform),
    }
}
