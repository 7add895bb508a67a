//! Plans the change of an index and publishes it: blobs, manifests, the index, and the name last.

use onetag_oci::{ManifestDocument, media_type};
use onetag_solver::Cancellation;
use serde_json::Value;

use super::children::{Child, Children};
use super::document::Draft;
use super::{Change, EditError, EditRequest, Edited};
use crate::Engine;
use crate::content::{ContentError, Contents, Found, Location, Transfer, TransferEvent};
use crate::flags::AnnotationTarget;

/// Reads the index and makes the changed one, without writing anything.
///
/// # Errors
/// When something that is asked for cannot be done, or read.
pub fn plan_edit(engine: &Engine, request: &EditRequest) -> Result<Edited, EditError> {
    let contents = Contents::new(engine);
    let before = contents.find(&request.target)?;
    let digest = before.document.digest().clone();
    let mut draft = Draft::parse(before.document.bytes(), &digest)?;
    let is_docker = media_type::is_docker(before.document.media_type());
    let mut children = Children::of(contents, request, &before, &draft)?;
    for removal in &request.remove {
        children.remove(removal)?;
    }
    for source in &request.replace {
        children.replace(source)?;
    }
    for source in &request.add {
        children.add(source)?;
    }
    children.check_platforms()?;
    children.change_images()?;
    children.change_entries(is_docker, &digest)?;
    if children.list.is_empty() {
        return Err(EditError::Empty { name: request.target.to_string() });
    }
    annotate_index(request, &mut draft, &before, is_docker)?;
    let Children { list, mut changes, .. } = children;
    if !draft.differences.is_empty() {
        changes.push(Change::Index { differences: std::mem::take(&mut draft.differences) });
    }
    if changes.is_empty() {
        return Ok(Edited { after: before.clone(), before, changes, children: list });
    }
    draft.value["manifests"] = Value::Array(list.iter().map(|child| child.value.clone()).collect());
    let document = ManifestDocument::parse(draft.bytes(), Some(before.document.media_type()))
        .map_err(|source| ContentError::Document { what: request.target.to_string(), source })?;
    let after = Found { descriptor: document.descriptor(), document };
    Ok(Edited { before, after, changes, children: list })
}

fn annotate_index(request: &EditRequest, draft: &mut Draft, before: &Found, is_docker: bool) -> Result<(), EditError> {
    let targets = request.annotations.iter().map(|annotation| annotation.target);
    if targets
        .chain(request.remove_annotations.iter().map(|removal| removal.target))
        .any(|target| target == Some(AnnotationTarget::IndexDescriptor))
    {
        return Err(EditError::IndexDescriptor);
    }
    let is_index = |target: Option<AnnotationTarget>| target == Some(AnnotationTarget::Index);
    let removals = request.remove_annotations.iter().filter(|removal| is_index(removal.target));
    let set = request.annotations.iter().filter(|annotation| is_index(annotation.target));
    let all: Vec<(&str, Option<&str>)> = removals
        .map(|removal| (removal.key.as_str(), None))
        .chain(set.map(|annotation| (annotation.key.as_str(), Some(annotation.value.as_str()))))
        .collect();
    if is_docker && !all.is_empty() {
        let media_type = before.document.media_type().to_owned();
        return Err(EditError::NoAnnotations { digest: before.document.digest().clone(), media_type });
    }
    for (key, value) in all {
        draft.set_entry(&["annotations"], "annotation", key, value)?;
    }
    Ok(())
}

/// Publishes a changed index under its names.
///
/// # Errors
/// [`ContentError::Moved`] when the index's own name means another one meanwhile; otherwise the first error. Nothing
/// has a name before all of it is there.
pub fn publish_edit(
    engine: &Engine,
    request: &EditRequest,
    edited: &Edited,
    cancel: &Cancellation,
    events: &(dyn Fn(TransferEvent) + Sync),
) -> Result<(), EditError> {
    let own = [request.target.clone()];
    let tags: &[Location] = if request.tags.is_empty() { &own } else { &request.tags };
    if let Some(nameless) = tags.iter().find(|tag| tag.digest().is_some()) {
        return Err(EditError::NoName { name: nameless.to_string() });
    }
    let contents = Contents::new(engine);
    let mut done: Vec<String> = Vec::new();
    for tag in tags {
        if done.contains(&tag.repository()) {
            continue;
        }
        done.push(tag.repository());
        let target = Transfer::new(contents, &request.target, tag, cancel, events);
        target.check(&edited.after)?;
        for child in &edited.children {
            move_child(contents, &target, child, tag)?;
        }
        for name in tags.iter().filter(|name| name.repository() == tag.repository()) {
            let transfer = target.between(name, name);
            transfer.put(&edited.after)?;
            if *name == request.target {
                check_unmoved(contents, name, edited)?;
            }
            transfer.name(&edited.after)?;
        }
        target.finish()?;
    }
    Ok(())
}

/// Brings an image to where the index goes.
fn move_child(contents: Contents<'_>, target: &Transfer<'_>, child: &Child, to: &Location) -> Result<(), EditError> {
    let transfer = target.between(&child.origin, to);
    let is_there = child.origin.repository() == to.repository() && !matches!(to, Location::Archive(_));
    match &child.made {
        None if is_there => {}
        None => {
            let found = contents.document(&child.origin, &child.descriptor)?;
            transfer.tree(&found, &|_| true)?;
        }
        Some(made) => {
            if !is_there {
                transfer.blobs(&made.blobs)?;
            }
            if let Some((descriptor, bytes)) = &made.config {
                transfer.put_blob(descriptor, bytes)?;
            }
            transfer.document(&made.manifest)?;
        }
    }
    Ok(())
}

/// The protocol of registries has no conditional change of a tag, so the name is looked at right before.
fn check_unmoved(contents: Contents<'_>, name: &Location, edited: &Edited) -> Result<(), ContentError> {
    let before = edited.before.document.digest();
    let now = match contents.resolve(name) {
        Ok(now) => Some(now.digest),
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(error),
    };
    if now.as_ref() == Some(before) || now.as_ref() == Some(edited.after.document.digest()) {
        return Ok(());
    }
    Err(ContentError::Moved { name: name.to_string(), before: before.clone(), now })
}
