//! The registry's answers: one function a route and method.

use std::str::FromStr;
use std::sync::Arc;

use http::{Method, Request, StatusCode, header};
use onetag_oci::Digest;

use super::cache::ManifestCache;
use super::repository::Repository;
use super::request::RequestBody;
use super::respond::{self, Answer, Failure};
use super::route::{self, Route};
use super::storage::Storage;
use super::uploads::Uploads;
use super::{Limits, Policy};
use crate::wire::errors::ErrorCode;
use crate::wire::name::{RepositoryName, Tag};
use crate::wire::query;

/// Everything that answering needs; shared by all connections.
pub(crate) struct Registry {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) limits: Limits,
    pub(super) policy: Policy,
    pub(super) uploads: Uploads,
    pub(super) manifests: ManifestCache,
}

/// A tag or a digest.
pub(crate) enum ManifestReference {
    Tag(Tag),
    Digest(Digest),
}

impl Registry {
    pub(crate) fn new(storage: Arc<dyn Storage>, limits: Limits, policy: Policy) -> Self {
        let uploads = Uploads::new(limits.uploads);
        Registry { storage, limits, policy, uploads, manifests: ManifestCache::default() }
    }

    /// Answers one request; never fails, but may answer with a failure.
    pub(crate) async fn answer(self: Arc<Self>, request: Request<RequestBody>) -> Result<Answer, Failure> {
        let Some(route) = route::parse(request.uri().path()) else {
            return Err(Failure::new(StatusCode::NOT_FOUND, ErrorCode::NameUnknown, "no such path"));
        };
        if self.policy.read_only && !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Err(Failure::new(
                StatusCode::METHOD_NOT_ALLOWED,
                ErrorCode::Unsupported,
                "this registry is read-only",
            ));
        }
        match route {
            Route::Base | Route::Health => read_only(&request, || {
                let mut answer = respond::bytes(StatusCode::OK, "application/json", "{}".into());
                respond::set(&mut answer, crate::wire::header::API_VERSION, "registry/2.0");
                Ok(answer)
            }),
            Route::Catalog => read_only(&request, || self.catalog(&parameters(&request))),
            Route::Tags { name } => {
                let repository = self.repository(&name)?;
                read_only(&request, || self.tags(&repository, &parameters(&request)))
            }
            Route::Referrers { name, digest } => {
                let repository = self.repository(&name)?;
                let digest = parse_digest(&digest)?;
                read_only(&request, || self.referrers(&repository, &digest, &parameters(&request)))
            }
            Route::Manifest { name, reference } => {
                let repository = self.repository(&name)?;
                let reference = parse_reference(&reference)?;
                match *request.method() {
                    Method::GET | Method::HEAD => {
                        self.get_manifest(&repository, &reference, *request.method() == Method::HEAD, &request)
                    }
                    Method::PUT => self.put_manifest(repository, reference, request).await,
                    Method::DELETE => self.delete_manifest(repository, reference).await,
                    _ => Err(method_not_allowed("GET, HEAD, PUT, DELETE")),
                }
            }
            Route::Blob { name, digest } => {
                let repository = self.repository(&name)?;
                let digest = parse_digest(&digest)?;
                match *request.method() {
                    Method::GET => self.get_blob(&repository, &digest, &request),
                    Method::HEAD => self.head_blob(&repository, &digest),
                    Method::DELETE => self.delete_blob(repository, digest).await,
                    _ => Err(method_not_allowed("GET, HEAD, DELETE")),
                }
            }
            Route::Uploads { name } => {
                let repository = self.repository(&name)?;
                match *request.method() {
                    // Uploads outlive a connection that breaks, so that what arrived of them is kept in order.
                    Method::POST => detached(self.begin_upload(repository, request)).await,
                    _ => Err(method_not_allowed("POST")),
                }
            }
            Route::Upload { name, identity } => {
                let repository = self.repository(&name)?;
                match *request.method() {
                    Method::GET | Method::HEAD => self.upload_status(repository, identity).await,
                    Method::PATCH => detached(self.continue_upload(repository, identity, request)).await,
                    Method::PUT => detached(self.finish_upload(repository, identity, request)).await,
                    Method::DELETE => self.cancel_upload(repository, identity).await,
                    _ => Err(method_not_allowed("GET, PATCH, PUT, DELETE")),
                }
            }
        }
    }

    fn repository(&self, name: &str) -> Result<Repository, Failure> {
        Ok(Repository::new(self.storage.clone(), parse_name(name)?))
    }
}

pub(crate) fn parse_name(name: &str) -> Result<RepositoryName, Failure> {
    RepositoryName::parse(name)
        .map_err(|error| Failure::new(StatusCode::BAD_REQUEST, ErrorCode::NameInvalid, error.to_string()))
}

pub(crate) fn parse_digest(text: &str) -> Result<Digest, Failure> {
    Digest::from_str(text)
        .map_err(|error| Failure::new(StatusCode::BAD_REQUEST, ErrorCode::DigestInvalid, error.to_string()))
}

fn parse_reference(text: &str) -> Result<ManifestReference, Failure> {
    if text.contains(':') {
        return parse_digest(text).map(ManifestReference::Digest);
    }
    Tag::parse(text)
        .map(ManifestReference::Tag)
        .map_err(|error| Failure::new(StatusCode::BAD_REQUEST, ErrorCode::ManifestInvalid, error.to_string()))
}

/// Parameters of a request's query.
pub(crate) fn parameters(request: &Request<RequestBody>) -> Vec<(String, String)> {
    request.uri().query().map(query::parse).unwrap_or_default()
}

/// First value of a parameter.
pub(crate) fn parameter<'a>(parameters: &'a [(String, String)], name: &str) -> Option<&'a str> {
    parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// A header as text.
pub(crate) fn header_text<'a>(request: &'a Request<RequestBody>, name: &header::HeaderName) -> Option<&'a str> {
    request.headers().get(name)?.to_str().ok()
}

fn read_only(
    request: &Request<RequestBody>,
    answer: impl FnOnce() -> Result<Answer, Failure>,
) -> Result<Answer, Failure> {
    match *request.method() {
        Method::GET => answer(),
        Method::HEAD => answer().map(without_body),
        _ => Err(method_not_allowed("GET, HEAD")),
    }
}

/// The same answer as to GET, lengths included, but no bytes.
pub(crate) fn without_body(answer: Answer) -> Answer {
    answer.map(|_| respond::ResponseBody::Full(None))
}

fn method_not_allowed(allowed: &'static str) -> Failure {
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, ErrorCode::Unsupported, "method not allowed here")
        .with_header("allow", allowed)
}

/// Runs to the end even when the connection that waits for it goes away.
async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::spawn(work).await {
        Ok(result) => result,
        Err(_) => Err(internal()),
    }
}

/// Runs blocking work aside.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(internal()),
    }
}

/// The answer to a request during which this program failed.
pub(crate) fn internal() -> Failure {
    Failure::new(StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::Unknown, "internal error")
}
