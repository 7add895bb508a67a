//! `onetag imagetools inspect`.

use std::rc::Rc;

use clap::Args;
use onetag_engine::Engine;
use onetag_engine::content::{Contents, Found, Location};
use onetag_engine::index::{Attestations, ImageSet, load};
use onetag_oci::{Descriptor, ManifestDocument};
use serde_json::{Value as Json, json};

use super::schemas::{DESCRIPTOR, IMAGE, INDEX};
use crate::commands::registry_error;
use crate::context::Context;
use crate::error::CommandResult;
use crate::output;
use crate::tabwriter::TabWriter;
use crate::template::{JsonStyle, Struct, Template, Value};

/// Show details of an image in a registry, a layout or the store
#[derive(Args, Debug)]
pub struct InspectArguments {
    /// The image: NAME, store:NAME or oci:PATH[:NAME]
    #[arg(value_name = "NAME")]
    name: String,
    /// Format the output using the given Go template
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// Show original, unformatted JSON manifest
    #[arg(long)]
    raw: bool,
}

impl InspectArguments {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> CommandResult {
        let location = Location::parse(&self.name)?;
        let engine = context.engine()?;
        let found = Contents::new(engine).find(&location).map_err(registry_error)?;
        if self.raw {
            return Ok(output::write(found.document.bytes())?);
        }
        let Some(format) = self.format.as_deref().filter(|format| !format.is_empty()) else {
            return Ok(output::write(text(&location, &found))?);
        };
        let template = Template::parse(format)?;
        if template.is_only_field("Manifest") {
            return Ok(output::write(text(&location, &found))?);
        }
        let images = load(engine, &location, &found).map_err(registry_error)?;
        let value = input(engine.clone(), &self.name, &found, images);
        Ok(output::write(template.execute(&value, JsonStyle::Indented)?)?)
    }
}

/// The tables that are shown without a template.
pub(super) fn text(location: &Location, found: &Found) -> String {
    let mut table = TabWriter::new(0, 1);
    table.line(format!("Name:\t{location}"));
    table.line(format!("MediaType:\t{}", found.descriptor.media_type));
    table.line(format!("Digest:\t{}", found.descriptor.digest));
    let mut out = table.finish();
    if let ManifestDocument::Index(index) = &found.document {
        let mut table = TabWriter::new(0, 1);
        table.line("\t");
        table.line("Manifests:\t");
        out += &table.finish();
        out += &children(location, &index.manifests);
    }
    out
}

fn children(location: &Location, manifests: &[Descriptor]) -> String {
    let mut out = String::new();
    let mut table = TabWriter::new(0, 1);
    for (number, child) in manifests.iter().enumerate() {
        if number > 0 {
            table.line("\t");
        }
        table.line(format!("  Name:\t{}", location.with_digest(&child.digest)));
        table.line(format!("  MediaType:\t{}", child.media_type));
        let Some(platform) = &child.platform else { continue };
        table.line(format!("  Platform:\t{platform}"));
        if let Some(version) = &platform.os_version {
            table.line(format!("  OSVersion:\t{version}"));
        }
        if !platform.os_features.is_empty() {
            table.line(format!("  OSFeatures:\t{}", platform.os_features.join(", ")));
        }
        if !child.urls.is_empty() {
            table.line(format!("  URLs:\t{}", child.urls.join(", ")));
        }
        if !child.annotations.is_empty() {
            table.line("  Annotations:\t");
            out += &std::mem::replace(&mut table, TabWriter::new(0, 1)).finish();
            let mut annotations = TabWriter::new(0, 1);
            for (key, value) in &child.annotations {
                annotations.line(format!("    {key}:\t{value}"));
            }
            out += &annotations.finish();
        }
    }
    out + &table.finish()
}

/// What a template is given, attestations when it asks for them.
fn input(engine: Engine, name: &str, found: &Found, images: ImageSet) -> Value {
    let configs = images.configs().map(|(platform, config)| (platform.to_owned(), read(config.bytes()))).collect();
    let several = images.len() > 1;
    let images = Rc::new(images);
    let engine = Rc::new(engine);
    let about = move |pick: fn(&Attestations) -> Json| {
        let (images, engine) = (Rc::clone(&images), Rc::clone(&engine));
        Value::Lazy(Rc::new(move || {
            let all = images.attestations(&engine).map_err(|error| error.to_string())?;
            let mut shown = all.iter().map(|(platform, about)| (platform.clone(), pick(about)));
            if !several {
                return Ok(Value::from_json(&shown.next().map_or(json!({}), |(_, json)| json)));
            }
            let shown = shown.filter(|(_, json)| json.as_object().is_some_and(|members| !members.is_empty()));
            Ok(Value::map(shown.map(|(platform, json)| (platform, Value::from_json(&json)))))
        }))
    };
    inputs(name, found, configs, about(provenance), about(sbom))
}

/// One platform or several make a difference, as in buildx.
pub(super) fn inputs(name: &str, found: &Found, configs: Vec<(String, Json)>, provenance: Value, sbom: Value) -> Value {
    let manifest = manifest(found);
    let several = configs.len() > 1;
    let mut configs = configs.into_iter().map(|(platform, config)| (platform, IMAGE.value(&config)));
    let (type_name, image) = match several {
        true => ("imagetools.tplInputs", Value::map(configs)),
        false => ("imagetools.tplInput", configs.next().map_or(Value::Nil("v1.Image"), |(_, image)| image)),
    };
    let mut members = serde_json::Map::new();
    for (key, value) in [("name", Value::from(name)), ("manifest", manifest.clone()), ("image", image.clone())] {
        let json = value.to_json().unwrap_or_default();
        if !json.is_null() {
            members.insert(key.to_owned(), json);
        }
    }
    let fields = vec![
        ("Name", Value::from(name), true),
        ("Manifest", manifest, true),
        ("Image", image, true),
        ("Provenance", provenance, false),
        ("SBOM", sbom, false),
    ];
    Value::Struct(Rc::new(Struct { type_name, static_type: type_name, fields, json: Json::Object(members) }))
}

fn read(bytes: &[u8]) -> Json {
    serde_json::from_slice(bytes).unwrap_or_default()
}

/// The descriptor of a manifest; of an index the document with its digest and size.
fn manifest(found: &Found) -> Value {
    let descriptor = &found.descriptor;
    if found.document.as_index().is_none() {
        return DESCRIPTOR.value_behind_interface(&json!(descriptor));
    }
    let mut index = read(found.document.bytes());
    index["digest"] = json!(descriptor.digest);
    index["size"] = json!(descriptor.size);
    INDEX.value_behind_interface(&index)
}

fn provenance(about: &Attestations) -> Json {
    match &about.provenance {
        Some(predicate) => json!({ "SLSA": sorted(predicate) }),
        None => json!({}),
    }
}

fn sbom(about: &Attestations) -> Json {
    match about.spdx.split_first() {
        None => json!({}),
        Some((first, [])) => json!({ "SPDX": sorted(first) }),
        Some((first, more)) => {
            let more: Vec<_> = more.iter().map(sorted).collect();
            json!({ "SPDX": sorted(first), "AdditionalSPDXs": more })
        }
    }
}

/// With the members of objects in byte order, as Go writes what it read into `any`.
fn sorted(json: &Json) -> Json {
    match json {
        Json::Array(items) => Json::Array(items.iter().map(sorted).collect()),
        Json::Object(members) => {
            let mut members: Vec<_> = members.iter().map(|(key, value)| (key.clone(), sorted(value))).collect();
            members.sort_by(|a, b| a.0.cmp(&b.0));
            Json::Object(members.into_iter().collect())
        }
        other => other.clone(),
    }
}
