//! Lists: tags, repositories and referrers, page by page.

use http::StatusCode;
use onetag_oci::{Descriptor, Digest, Index, media_type};

use super::registry::{Registry, parameter};
use super::repository::{self, Repository};
use super::respond::{self, Answer, Failure};
use crate::wire::errors::ErrorCode;
use crate::wire::lists::{Catalog, TagList};
use crate::wire::{header, link, query};

/// Entries of a page when the client does not say how many it wants.
const PAGE_ENTRIES: usize = 1000;
/// Bytes of descriptors on a page of referrers, so that the whole stays below what clients read.
const PAGE_BYTES: usize = 3 * 1024 * 1024;

type Parameters = [(String, String)];

impl Registry {
    pub(super) fn tags(&self, repository: &Repository, parameters: &Parameters) -> Result<Answer, Failure> {
        if !repository.exists()? {
            let failure = Failure::new(StatusCode::NOT_FOUND, ErrorCode::NameUnknown, "repository name not known");
            return Err(failure.with_detail(serde_json::json!({ "name": repository.name().as_str() })));
        }
        let (tags, next) = page(repository.tags()?, parameters)?;
        let path = format!("/v2/{}/tags/list", repository.name());
        let mut answer = respond::json(StatusCode::OK, &TagList { name: repository.name().to_string(), tags });
        link_to(&mut answer, &path, next, parameters);
        Ok(answer)
    }

    pub(super) fn catalog(&self, parameters: &Parameters) -> Result<Answer, Failure> {
        let names = repository::repositories(self.storage.as_ref())?;
        let names = names.iter().map(ToString::to_string).collect();
        let (repositories, next) = page(names, parameters)?;
        let mut answer = respond::json(StatusCode::OK, &Catalog { repositories });
        link_to(&mut answer, "/v2/_catalog", next, parameters);
        Ok(answer)
    }

    pub(super) fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        parameters: &Parameters,
    ) -> Result<Answer, Failure> {
        let wanted = parameter(parameters, "artifactType").filter(|wanted| !wanted.is_empty());
        let after = parameter(parameters, "last").unwrap_or("");
        let (limit, _) = entry_limit(parameters)?;
        let mut manifests: Vec<Descriptor> = Vec::new();
        let mut size = 0;
        let mut next = None;
        let mut last = None;
        for name in repository.referrer_names(subject)? {
            if name.as_str() <= after {
                continue;
            }
            let Some(descriptor) = repository.referrer(subject, &name)? else { continue };
            if wanted.is_some_and(|wanted| descriptor.artifact_type.as_deref() != Some(wanted)) {
                continue;
            }
            let bytes = onetag_oci::go_json(&descriptor).len();
            if !manifests.is_empty() && (manifests.len() >= limit || size + bytes > PAGE_BYTES) {
                next = last;
                break;
            }
            size += bytes;
            manifests.push(descriptor);
            last = Some(name);
        }
        let mut index = Index::new(manifests);
        index.media_type = Some(media_type::OCI_INDEX.to_owned());
        let body = onetag_oci::go_json(&index);
        let mut answer = respond::bytes(StatusCode::OK, media_type::OCI_INDEX, body.into());
        if wanted.is_some() {
            respond::set(&mut answer, header::FILTERS_APPLIED, "artifactType");
        }
        let path = format!("/v2/{}/referrers/{subject}", repository.name());
        link_to(&mut answer, &path, next, parameters);
        Ok(answer)
    }
}

/// How many entries a page has, and whether the client said so.
fn entry_limit(parameters: &Parameters) -> Result<(usize, bool), Failure> {
    match parameter(parameters, "n") {
        None => Ok((PAGE_ENTRIES, false)),
        Some(text) => match text.parse::<usize>() {
            Ok(count) => Ok((count.min(PAGE_ENTRIES), true)),
            Err(_) => Err(Failure::new(
                StatusCode::BAD_REQUEST,
                ErrorCode::Unsupported,
                "n must be a number that is not negative",
            )),
        },
    }
}

/// The entries of one page, and the last of them when others follow.
fn page(mut entries: Vec<String>, parameters: &Parameters) -> Result<(Vec<String>, Option<String>), Failure> {
    let (limit, asked) = entry_limit(parameters)?;
    if let Some(last) = parameter(parameters, "last") {
        entries.retain(|entry| entry.as_str() > last);
    }
    // Clients from before links existed ask without n and expect everything.
    if !asked || entries.len() <= limit {
        return Ok((entries, None));
    }
    entries.truncate(limit);
    let next = entries.last().cloned();
    Ok((entries, next))
}

fn link_to(answer: &mut Answer, path: &str, next: Option<String>, parameters: &Parameters) {
    let Some(next) = next else { return };
    let mut target = format!("{path}?last={}", query::encode(&next));
    for name in ["n", "artifactType"] {
        if let Some(value) = parameter(parameters, name) {
            target.push_str(&format!("&{name}={}", query::encode(value)));
        }
    }
    respond::set(answer, "link", &link::format_next(&target));
}
