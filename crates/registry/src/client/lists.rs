//! Lists and deletion: tags, repositories, referrers.

use std::collections::HashSet;

use http::{HeaderMap, Method, header};
use onetag_oci::{Descriptor, Digest, Document, Index, ManifestDocument, Reference, media_type};
use serde::de::DeserializeOwned;
use url::Url;

use super::Client;
use super::exchange::{self, Call, Exchange, read_body};
use super::hosts::{self, Endpoint};
use super::pull::{get_manifest, with_tls};
use super::push::put_manifest;
use super::scope::Scope;
use crate::error::{Error, RedactedUrl, Result};
use crate::wire::lists::{Catalog, TagList};
use crate::wire::{MANIFEST_LIMIT_BYTES, link};

/// Pages followed of one list; a list that never ends is given up.
const PAGE_LIMIT: usize = 10_000;

impl Client {
    /// Tags of a repository in the registry's order, over all pages.
    ///
    /// # Errors
    /// When the repository does not exist or the list cannot be read.
    pub fn tags(&self, repository: &Reference) -> Result<Vec<String>> {
        self.run(async |exchange| {
            let endpoint = exchange.settled(hosts::origin(self.hosts(), repository.domain())?);
            with_tls(exchange, endpoint, async |endpoint| {
                let url = endpoint.url(&format!("{}/tags/list", repository.path()));
                let scope = Scope::pull(repository.path());
                let pages: Vec<TagList> = pages(exchange, endpoint, url, &scope, &repository.familiar_name()).await?;
                Ok(pages.into_iter().flat_map(|page| page.tags).collect())
            })
            .await
        })
    }

    /// The first tags of a repository in the registry's order, with one request.
    ///
    /// # Errors
    /// As [`Client::tags`].
    pub fn first_tags(&self, repository: &Reference) -> Result<Vec<String>> {
        self.run(async |exchange| {
            let endpoint = exchange.settled(hosts::origin(self.hosts(), repository.domain())?);
            with_tls(exchange, endpoint, async |endpoint| {
                let url = endpoint.url(&format!("{}/tags/list", repository.path()));
                let scope = Scope::pull(repository.path());
                let (list, _): (TagList, _) =
                    page(exchange, endpoint, &url, &scope, &repository.familiar_name()).await?;
                Ok(list.tags)
            })
            .await
        })
    }

    /// Repositories of a registry (`localhost:5000`), over all pages. Many registries do not allow this.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn repositories(&self, registry: &str) -> Result<Vec<String>> {
        self.run(async |exchange| {
            let endpoint = exchange.settled(hosts::origin(self.hosts(), registry)?);
            with_tls(exchange, endpoint, async |endpoint| {
                let url = endpoint.url("_catalog");
                let pages: Vec<Catalog> = pages(exchange, endpoint, url, &Scope::catalog(), registry).await?;
                Ok(pages.into_iter().flat_map(|page| page.repositories).collect())
            })
            .await
        })
    }

    /// Manifests whose subject is the given one, from the registry's own list or the tag that stands in for it.
    ///
    /// # Errors
    /// When neither can be read. No referrers are no error.
    pub fn referrers(
        &self,
        repository: &Reference,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>> {
        self.run(async |exchange| {
            let endpoint = exchange.settled(hosts::origin(self.hosts(), repository.domain())?);
            with_tls(exchange, endpoint, async |endpoint| {
                referrers(exchange, endpoint, repository, subject, artifact_type).await
            })
            .await
        })
    }

    /// Deletes the tag of a reference, or its manifest when it has a digest and no tag.
    ///
    /// Where the registry does not keep lists of referrers itself, a deleted manifest leaves the list of its subject too.
    ///
    /// # Errors
    /// When it does not exist or the registry does not delete, or when it is gone but the list cannot be changed.
    pub fn delete_manifest(&self, reference: &Reference) -> Result<()> {
        let target = match (reference.tag(), reference.digest()) {
            (Some(tag), _) => tag.to_owned(),
            (None, Some(digest)) => digest.to_string(),
            (None, None) => "latest".to_owned(),
        };
        let listed = reference.tag().is_none().then(|| self.subject_of(reference)).flatten();
        self.delete(reference, &format!("manifests/{target}"), &reference.familiar())?;
        match (listed, reference.digest()) {
            (Some(subject), Some(digest)) => self.unlist(reference, &subject, digest),
            _ => Ok(()),
        }
    }

    /// The subject of the manifest with a reference's digest, as far as that can be found out.
    fn subject_of(&self, reference: &Reference) -> Option<Digest> {
        reference.digest()?;
        let document = self.manifest(reference).ok()?;
        subject(&document).cloned()
    }

    /// Takes a manifest that was deleted out of the list under its subject's tag, where the registry keeps none itself.
    fn unlist(&self, repository: &Reference, subject: &Digest, deleted: &Digest) -> Result<()> {
        self.run(async |exchange| {
            let endpoint = exchange.settled(hosts::origin(self.hosts(), repository.domain())?);
            with_tls(exchange, endpoint, async |endpoint| {
                let url = endpoint.url(&format!("{}/referrers/{subject}", repository.path()));
                let scope = Scope::pull(repository.path());
                let kept: Result<(Index, _)> =
                    page(exchange, endpoint, &url, &scope, &repository.familiar_name()).await;
                match kept {
                    Err(Error::NotFound { .. }) => {}
                    // It has lists of its own, or something else against being asked.
                    Ok(_) | Err(Error::Status { .. }) => return Ok(()),
                    Err(error) => return Err(error),
                }
                let Some(list_reference) = fallback_reference(repository, subject) else { return Ok(()) };
                let mut index = changeable_list(exchange, endpoint, &list_reference).await?;
                let before = index.manifests.len();
                index.manifests.retain(|known| known.digest != *deleted);
                if index.manifests.len() == before {
                    return Ok(());
                }
                put_list(exchange, endpoint, &list_reference, index).await
            })
            .await
        })
    }

    /// Deletes a blob from a repository.
    ///
    /// # Errors
    /// When it does not exist or the registry does not delete.
    pub fn delete_blob(&self, repository: &Reference, digest: &Digest) -> Result<()> {
        self.delete(repository, &format!("blobs/{digest}"), digest.as_str())
    }

    fn delete(&self, repository: &Reference, path: &str, what: &str) -> Result<()> {
        self.run(async |exchange| {
            let endpoint = exchange.settled(hosts::origin(self.hosts(), repository.domain())?);
            with_tls(exchange, endpoint, async |endpoint| {
                let url = endpoint.url(&format!("{}/{path}", repository.path()));
                let scope = Scope::delete(repository.path());
                let response = exchange.call(&Call::new(endpoint, Method::DELETE, url, &scope, what)).await?;
                exchange::drain(response, exchange.stall()).await;
                Ok(())
            })
            .await
        })
    }

    /// Shows credentials to a registry, to find out whether it accepts them.
    ///
    /// # Errors
    /// When it does not, or cannot be asked.
    pub fn check_access(&self, registry: &str) -> Result<()> {
        self.run(async |exchange| {
            let endpoint = exchange.settled(hosts::origin(self.hosts(), registry)?);
            with_tls(exchange, endpoint, async |endpoint| {
                let scope = Scope::default();
                let call = Call::new(endpoint, Method::GET, endpoint.url(""), &scope, registry);
                let response = exchange.call(&call).await?;
                exchange::drain(response, exchange.stall()).await;
                Ok(())
            })
            .await
        })
    }
}

/// Reads all pages of a list.
async fn pages<T: DeserializeOwned>(
    exchange: &Exchange,
    endpoint: &Endpoint,
    first: Url,
    scope: &Scope,
    what: &str,
) -> Result<Vec<T>> {
    let mut pages = Vec::new();
    let mut seen = HashSet::new();
    let mut url = first;
    loop {
        let (page, headers) = page(exchange, endpoint, &url, scope, what).await?;
        pages.push(page);
        let Some(next) = next_page(&url, &headers, endpoint)? else { return Ok(pages) };
        if !seen.insert(next.clone()) || pages.len() >= PAGE_LIMIT {
            let problem = "a list that does not end".to_owned();
            return Err(Error::Protocol { url: RedactedUrl::new(&url), problem });
        }
        url = next;
    }
}

async fn page<T: DeserializeOwned>(
    exchange: &Exchange,
    endpoint: &Endpoint,
    url: &Url,
    scope: &Scope,
    what: &str,
) -> Result<(T, HeaderMap)> {
    let mut attempts = exchange.attempts();
    loop {
        let call = Call::new(endpoint, Method::GET, url.clone(), scope, what);
        let read = async {
            let response = exchange.call_once(&call).await?;
            let headers = response.headers().clone();
            let bytes = read_body(response, MANIFEST_LIMIT_BYTES, &Method::GET, url, exchange.stall()).await?;
            Ok((bytes, headers))
        };
        match read.await {
            Ok((bytes, headers)) => {
                let page = serde_json::from_slice(&bytes).map_err(|_| Error::Protocol {
                    url: RedactedUrl::new(url),
                    problem: "something that is no list".to_owned(),
                })?;
                return Ok((page, headers));
            }
            Err(error) => exchange.wait(&mut attempts, endpoint, error).await?,
        }
    }
}

/// The address of the next page, which must be at the same registry.
fn next_page(url: &Url, headers: &HeaderMap, endpoint: &Endpoint) -> Result<Option<Url>> {
    let value = headers.get(header::LINK).and_then(|value| value.to_str().ok());
    let Some(target) = value.and_then(link::next) else { return Ok(None) };
    let problem = |problem: &str| Error::Protocol { url: RedactedUrl::new(url), problem: problem.to_owned() };
    let mut next = url.join(target).map_err(|_| problem("a next page that is nowhere"))?;
    if next.host_str() == endpoint.base.host_str() && next.scheme() == "http" && endpoint.base.scheme() == "https" {
        // A registry behind a proxy that ends TLS, and does not know it.
        let _ = next.set_scheme("https");
    }
    if next.origin() != endpoint.base.origin() {
        return Err(problem("a next page at another host"));
    }
    Ok(Some(next))
}

async fn referrers(
    exchange: &Exchange,
    endpoint: &Endpoint,
    repository: &Reference,
    subject: &Digest,
    artifact_type: Option<&str>,
) -> Result<Vec<Descriptor>> {
    let mut url = endpoint.url(&format!("{}/referrers/{subject}", repository.path()));
    if let Some(artifact_type) = artifact_type {
        url.query_pairs_mut().append_pair("artifactType", artifact_type);
    }
    let scope = Scope::pull(repository.path());
    let found: Result<Vec<Index>> = pages(exchange, endpoint, url, &scope, &repository.familiar_name()).await;
    let mut descriptors: Vec<Descriptor> = match found {
        Ok(pages) => pages.into_iter().flat_map(|page| page.manifests).collect(),
        Err(Error::NotFound { .. }) => fallback_index(exchange, endpoint, repository, subject)
            .await?
            .map(|index| index.into_value().manifests)
            .unwrap_or_default(),
        Err(error) => return Err(error),
    };
    // Filtering is optional for registries.
    descriptors.retain(|found| artifact_type.is_none_or(|wanted| found.artifact_type.as_deref() == Some(wanted)));
    Ok(descriptors)
}

/// The tag under which a list of referrers stands where the registry keeps none.
pub(crate) fn fallback_tag(subject: &Digest) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let algorithm: String = subject.algorithm().name().chars().take(32).map(allowed).collect();
    let encoded: String = subject.encoded().chars().take(64).map(allowed).collect();
    format!("{algorithm}-{encoded}")
}

fn fallback_reference(repository: &Reference, subject: &Digest) -> Option<Reference> {
    repository.name_only().with_tag(&fallback_tag(subject)).ok()
}

/// The list of referrers under its tag; `None` when there is none.
async fn fallback_index(
    exchange: &Exchange,
    endpoint: &Endpoint,
    repository: &Reference,
    subject: &Digest,
) -> Result<Option<Document<Index>>> {
    let Some(reference) = fallback_reference(repository, subject) else { return Ok(None) };
    match get_manifest(exchange, endpoint, &reference).await {
        Ok(served) => match ManifestDocument::parse(served.bytes, served.media_type.as_deref()) {
            Ok(ManifestDocument::Index(index)) => Ok(Some(index)),
            _ => Ok(None),
        },
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Pushes a manifest and, where the registry does not take note of its subject, adds it to the list under the subject's tag.
pub(crate) async fn push_with_referrers(
    exchange: &Exchange,
    endpoint: &Endpoint,
    reference: &Reference,
    bytes: &[u8],
    media_type: &str,
) -> Result<Digest> {
    let (digest, noted) = put_manifest(exchange, endpoint, reference, bytes, media_type).await?;
    let Ok(document) = ManifestDocument::parse(bytes.to_vec(), Some(media_type)) else { return Ok(digest) };
    let Some(subject) = subject(&document).filter(|_| !noted) else { return Ok(digest) };
    let Some(list_reference) = fallback_reference(reference, subject) else { return Ok(digest) };
    let mut index = changeable_list(exchange, endpoint, &list_reference).await?;
    if index.manifests.iter().any(|known| known.digest == digest) {
        return Ok(digest);
    }
    index.manifests.push(referrer_descriptor(&document, digest.clone()));
    put_list(exchange, endpoint, &list_reference, index).await?;
    Ok(digest)
}

fn subject(document: &ManifestDocument) -> Option<&Digest> {
    let subject = match document {
        ManifestDocument::Index(index) => index.subject.as_ref(),
        ManifestDocument::Manifest(manifest) => manifest.subject.as_ref(),
    };
    subject.map(|subject| &subject.digest)
}

/// The list under a subject's tag, to be changed: empty when there is none yet. Anything else that stands there is not ours.
async fn changeable_list(exchange: &Exchange, endpoint: &Endpoint, list: &Reference) -> Result<Index> {
    let served = match get_manifest(exchange, endpoint, list).await {
        Ok(served) => served,
        Err(Error::NotFound { .. }) => return Ok(Index::new(Vec::new())),
        Err(error) => return Err(error),
    };
    match ManifestDocument::parse(served.bytes, served.media_type.as_deref()) {
        Ok(ManifestDocument::Index(index)) => Ok(index.into_value()),
        _ => {
            let tag = list.tag().unwrap_or_default();
            let url = endpoint.url(&format!("{}/manifests/{tag}", list.path()));
            let problem = format!("no list of referrers under the tag {tag}; what stands there is left as it is");
            Err(Error::Protocol { url: RedactedUrl::new(&url), problem })
        }
    }
}

async fn put_list(exchange: &Exchange, endpoint: &Endpoint, list: &Reference, mut index: Index) -> Result<()> {
    index.media_type = Some(media_type::OCI_INDEX.to_owned());
    let document = Document::from_value(index);
    put_manifest(exchange, endpoint, list, document.bytes(), media_type::OCI_INDEX).await.map(drop)
}

/// The entry of a manifest in the list of its subject's referrers.
fn referrer_descriptor(document: &ManifestDocument, digest: Digest) -> Descriptor {
    let mut descriptor = document.descriptor();
    descriptor.digest = digest;
    match document {
        ManifestDocument::Index(index) => {
            descriptor.artifact_type = index.artifact_type.clone();
            descriptor.annotations = index.annotations.clone();
        }
        ManifestDocument::Manifest(manifest) => {
            let own = manifest.artifact_type.clone().filter(|own| !own.is_empty());
            descriptor.artifact_type = own.or_else(|| Some(manifest.config.media_type.clone()));
            descriptor.annotations = manifest.annotations.clone();
        }
    }
    descriptor
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_that_stand_for_lists() {
        let hex = "a".repeat(128);
        let digest: Digest = format!("sha512:{hex}").parse().expect("digest");
        assert_eq!(fallback_tag(&digest), format!("sha512-{}", "a".repeat(64)));
    }
}
