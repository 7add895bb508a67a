//! Uploads: monolithic, in chunks, streamed, resumed, mounted and cancelled.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use onetag_oci::{Algorithm, Digest, Digester};
use tokio::task::JoinHandle;

use super::manifests::{discard, stalled, too_slow};
use super::options::Limits;
use super::registry::{Registry, blocking, header_text, internal, parameter, parameters, parse_digest, parse_name};
use super::repository::{Repository, identity};
use super::request::RequestBody;
use super::respond::{self, Answer, Failure};
use super::storage::{Context, Staged, Storage, StorageError};
use crate::wire;
use crate::wire::errors::ErrorCode;
use crate::wire::range;

/// Bytes gathered before they are written and hashed aside, while the next ones arrive.
const BATCH_BYTES: usize = 128 * 1024;

/// Uploads under way.
pub(crate) struct Uploads {
    sessions: Mutex<HashMap<String, Slot>>,
    limit: usize,
}

/// An upload between requests; `session` is `None` while a request has it, or before the first byte.
#[derive(Clone)]
struct Slot {
    repository: String,
    session: Arc<tokio::sync::Mutex<Option<Session>>>,
    algorithm: Algorithm,
    used: Arc<Mutex<Instant>>,
}

/// What arrived of one upload.
struct Session {
    staged: Box<dyn Staged>,
    /// Digest so far; `None` when it must be computed from what is stored, as after a restart.
    digester: Option<(Algorithm, Digester)>,
}

impl Session {
    fn create(storage: &dyn Storage, identity: &str, algorithm: Algorithm) -> Result<Self, StorageError> {
        // An earlier request may have left something under this identity.
        if let Some(staged) = storage.staged(identity)? {
            return Ok(Session { staged, digester: None });
        }
        Ok(Session { staged: storage.stage(identity)?, digester: Some((algorithm, Digester::new(algorithm))) })
    }

    fn add(&mut self, batch: &[Bytes]) -> Result<(), StorageError> {
        for bytes in batch {
            self.staged.add(bytes)?;
            if let Some((_, digester)) = &mut self.digester {
                digester.update(bytes);
            }
        }
        Ok(())
    }

    fn digest(&mut self, algorithm: Algorithm) -> Result<Digest, StorageError> {
        match self.digester.take() {
            Some((known, digester)) if known == algorithm => Ok(digester.finish()),
            _ => {
                let mut digester = Digester::new(algorithm);
                let mut buffer = vec![0; BATCH_BYTES];
                let mut offset = 0;
                loop {
                    let read = self.staged.read_at(&mut buffer, offset).context("reading", "upload")?;
                    if read == 0 {
                        return Ok(digester.finish());
                    }
                    digester.update(&buffer[..read]);
                    offset += read as u64;
                }
            }
        }
    }
}

impl Uploads {
    pub(super) fn new(limit: usize) -> Self {
        Uploads { sessions: Mutex::default(), limit }
    }

    fn begin(&self, repository: &Repository, algorithm: Algorithm) -> Result<String, Failure> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() >= self.limit {
            return Err(Failure::new(
                StatusCode::TOO_MANY_REQUESTS,
                ErrorCode::TooManyRequests,
                "too many uploads under way",
            )
            .with_header("retry-after", "10"));
        }
        let identity = identity();
        let slot = Slot {
            repository: repository.name().to_string(),
            session: Arc::default(),
            algorithm,
            used: Arc::new(Mutex::new(Instant::now())),
        };
        sessions.insert(identity.clone(), slot);
        Ok(identity)
    }

    fn slot(&self, repository: &Repository, identity: &str, storage: &dyn Storage) -> Result<Slot, Failure> {
        let unknown =
            || Failure::new(StatusCode::NOT_FOUND, ErrorCode::BlobUploadUnknown, "blob upload unknown to registry");
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = sessions.get(identity) {
            *slot.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            return if slot.repository == repository.name().as_str() { Ok(slot.clone()) } else { Err(unknown()) };
        }
        // A server before this one may have begun it: who knows the identity may go on.
        if !is_identity(identity) || storage.staged(identity)?.is_none() {
            return Err(unknown());
        }
        let slot = Slot {
            repository: repository.name().to_string(),
            session: Arc::default(),
            algorithm: Algorithm::Sha256,
            used: Arc::new(Mutex::new(Instant::now())),
        };
        sessions.insert(identity.to_owned(), slot.clone());
        Ok(slot)
    }

    fn end(&self, identity: &str) {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(identity);
    }

    /// Forgets uploads that nobody has touched for so long; what arrived of them stays in storage until that expires too.
    pub(crate) fn expire(&self, older_than: Duration) {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, slot| {
            let used = *slot.used.lock().unwrap_or_else(PoisonError::into_inner);
            slot.session.try_lock().is_err() || used.elapsed() < older_than
        });
    }
}

fn is_identity(text: &str) -> bool {
    text.len() == 36 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

/// Takes the body of a request into a session: one batch is written and hashed while the next arrives.
struct Receiver {
    /// `None` while a batch is being written.
    session: Option<Session>,
    writing: Option<JoinHandle<(Session, Result<(), StorageError>)>>,
    batch: Vec<Bytes>,
    batch_bytes: usize,
}

impl Receiver {
    fn new(session: Session) -> Self {
        Receiver { session: Some(session), writing: None, batch: Vec::new(), batch_bytes: 0 }
    }

    /// Receives until the body ends or breaks; the session keeps what arrived in either case.
    async fn receive(&mut self, mut body: RequestBody, allowed_bytes: u64, limits: &Limits) -> Result<(), Failure> {
        let mut arrived = 0;
        let started = Instant::now();
        loop {
            let left = limits.body.saturating_sub(started.elapsed());
            let frame = match tokio::time::timeout(limits.stall.min(left), body.frame()).await {
                Err(_) if left < limits.stall => return Err(too_slow()),
                Err(_) => return Err(stalled()),
                Ok(None) => return Ok(()),
                Ok(Some(Err(_))) => {
                    let message = "the request ended early";
                    return Err(Failure::new(StatusCode::BAD_REQUEST, ErrorCode::BlobUploadInvalid, message));
                }
                Ok(Some(Ok(frame))) => frame,
            };
            let Ok(data) = frame.into_data() else { continue };
            arrived += data.len() as u64;
            if arrived > allowed_bytes {
                discard(&mut body, limits.stall).await;
                return Err(too_large());
            }
            self.batch_bytes += data.len();
            self.batch.push(data);
            if self.batch_bytes >= BATCH_BYTES {
                self.flush().await?;
            }
        }
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        self.settle().await?;
        let Some(mut session) = self.session.take() else { return Err(internal()) };
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        self.writing = Some(tokio::task::spawn_blocking(move || {
            let added = session.add(&batch);
            (session, added)
        }));
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), Failure> {
        let Some(writing) = self.writing.take() else { return Ok(()) };
        let (session, added) = writing.await.map_err(|_| internal())?;
        self.session = Some(session);
        Ok(added?)
    }

    /// The session, and what has not been written to it.
    async fn finish(mut self) -> Result<(Session, Vec<Bytes>), Failure> {
        self.settle().await?;
        Ok((self.session.take().ok_or_else(internal)?, self.batch))
    }
}

impl Registry {
    pub(super) async fn begin_upload(
        self: Arc<Self>,
        repository: Repository,
        request: Request<RequestBody>,
    ) -> Result<Answer, Failure> {
        let parameters = parameters(&request);
        if let Some(mount) = parameter(&parameters, "mount") {
            let digest = parse_digest(mount)?;
            let from = parameter(&parameters, "from").map(parse_name).transpose()?;
            let (registry, target) = (self.clone(), repository.clone());
            let mounted = blocking(move || registry.mount(&target, from, &digest).map(|done| (done, digest)));
            if let (true, digest) = mounted.await? {
                return Ok(stored(&repository, &digest));
            }
        }
        if let Some(digest) = parameter(&parameters, "digest") {
            return self.upload_at_once(repository, parse_digest(digest)?, request).await;
        }
        let algorithm = match parameter(&parameters, "digest-algorithm") {
            None => Algorithm::Sha256,
            Some("sha256") => Algorithm::Sha256,
            Some("sha512") => Algorithm::Sha512,
            Some(other) => {
                let message = format!("digest algorithm {other:?} is not supported");
                return Err(Failure::new(StatusCode::BAD_REQUEST, ErrorCode::DigestInvalid, message));
            }
        };
        let identity = self.uploads.begin(&repository, algorithm)?;
        Ok(progress(StatusCode::ACCEPTED, &repository, &identity, 0))
    }

    fn mount(
        &self,
        target: &Repository,
        from: Option<wire::name::RepositoryName>,
        digest: &Digest,
    ) -> Result<bool, Failure> {
        let _guard = self.storage.lock(false)?;
        let there = match from {
            Some(from) => Repository::new(self.storage.clone(), from).blob_size(digest)?.is_some(),
            // Whoever may push here may read everything here, so it does not matter whose it is.
            None => self.storage.content_size(digest)?.is_some(),
        };
        if there {
            target.link_blob(digest)?;
        }
        Ok(there)
    }

    /// A blob in the request that begins its upload.
    async fn upload_at_once(
        self: Arc<Self>,
        repository: Repository,
        digest: Digest,
        request: Request<RequestBody>,
    ) -> Result<Answer, Failure> {
        let storage = self.storage.clone();
        let algorithm = digest.algorithm();
        let session = blocking(move || Ok(Session::create(storage.as_ref(), &identity(), algorithm)?)).await?;
        let mut receiver = Receiver::new(session);
        let received = receiver.receive(request.into_body(), self.limits.blob_bytes, &self.limits).await;
        let (session, rest) = receiver.finish().await?;
        match received {
            Ok(()) => blocking(move || self.commit(&repository, session, &rest, &digest)).await,
            Err(failure) => {
                blocking(move || Ok(session.staged.discard()?)).await?;
                Err(failure)
            }
        }
    }

    pub(super) async fn upload_status(
        self: Arc<Self>,
        repository: Repository,
        identity: String,
    ) -> Result<Answer, Failure> {
        let slot = self.uploads.slot(&repository, &identity, self.storage.as_ref())?;
        let mut held = slot.session.lock().await;
        if held.is_none() {
            *held = self.storage.staged(&identity)?.map(|staged| Session { staged, digester: None });
        }
        let size = held.as_ref().map_or(0, |session| session.staged.size_bytes());
        Ok(progress(StatusCode::NO_CONTENT, &repository, &identity, size))
    }

    pub(super) async fn continue_upload(
        self: Arc<Self>,
        repository: Repository,
        identity: String,
        request: Request<RequestBody>,
    ) -> Result<Answer, Failure> {
        let slot = self.uploads.slot(&repository, &identity, self.storage.as_ref())?;
        let mut held = slot.session.lock().await;
        let session = self.take(&mut held, &identity, slot.algorithm).await?;
        let before = session.staged.size_bytes();
        if let Err(failure) = check_chunk(&request, before, &repository, &identity) {
            *held = Some(session);
            return Err(failure);
        }
        let allowed = self.limits.blob_bytes.saturating_sub(before);
        let mut receiver = Receiver::new(session);
        let received = receiver.receive(request.into_body(), allowed, &self.limits).await;
        let (mut session, rest) = receiver.finish().await?;
        let (session, added) = blocking(move || {
            let added = session.add(&rest);
            Ok((session, added))
        })
        .await?;
        let size = session.staged.size_bytes();
        *held = Some(session);
        added?;
        received?;
        Ok(progress(StatusCode::ACCEPTED, &repository, &identity, size))
    }

    pub(super) async fn finish_upload(
        self: Arc<Self>,
        repository: Repository,
        identity: String,
        request: Request<RequestBody>,
    ) -> Result<Answer, Failure> {
        let parameters = parameters(&request);
        let slot = self.uploads.slot(&repository, &identity, self.storage.as_ref())?;
        let Some(digest) = parameter(&parameters, "digest") else {
            let message = "the digest parameter is missing";
            return Err(Failure::new(StatusCode::BAD_REQUEST, ErrorCode::DigestInvalid, message));
        };
        let digest = parse_digest(digest)?;
        let mut held = slot.session.lock().await;
        let session = self.take(&mut held, &identity, digest.algorithm()).await?;
        let before = session.staged.size_bytes();
        if let Err(failure) = check_chunk(&request, before, &repository, &identity) {
            *held = Some(session);
            return Err(failure);
        }
        let allowed = self.limits.blob_bytes.saturating_sub(before);
        let mut receiver = Receiver::new(session);
        let received = receiver.receive(request.into_body(), allowed, &self.limits).await;
        let (mut session, rest) = receiver.finish().await?;
        if let Err(failure) = received {
            let (session, added) = blocking(move || {
                let added = session.add(&rest);
                Ok((session, added))
            })
            .await?;
            *held = Some(session);
            added?;
            return Err(failure);
        }
        let registry = self.clone();
        let answer = blocking(move || registry.commit(&repository, session, &rest, &digest)).await;
        self.uploads.end(&identity);
        answer
    }

    pub(super) async fn cancel_upload(
        self: Arc<Self>,
        repository: Repository,
        identity: String,
    ) -> Result<Answer, Failure> {
        let slot = self.uploads.slot(&repository, &identity, self.storage.as_ref())?;
        let session = slot.session.lock().await.take();
        self.uploads.end(&identity);
        let storage = self.storage.clone();
        blocking(move || {
            let staged = match session {
                Some(session) => Some(session.staged),
                None => storage.staged(&identity)?,
            };
            if let Some(staged) = staged {
                staged.discard()?;
            }
            Ok(respond::empty(StatusCode::NO_CONTENT))
        })
        .await
    }

    async fn take(&self, held: &mut Option<Session>, identity: &str, algorithm: Algorithm) -> Result<Session, Failure> {
        if let Some(session) = held.take() {
            return Ok(session);
        }
        let (storage, identity) = (self.storage.clone(), identity.to_owned());
        blocking(move || Ok(Session::create(storage.as_ref(), &identity, algorithm)?)).await
    }

    /// Verifies what arrived, makes it durable and gives it to the repository.
    fn commit(
        &self,
        repository: &Repository,
        mut session: Session,
        rest: &[Bytes],
        digest: &Digest,
    ) -> Result<Answer, Failure> {
        let verified = session.add(rest).and_then(|()| session.digest(digest.algorithm()));
        let actual = match verified {
            Ok(actual) => actual,
            Err(error) => {
                let _ = session.staged.discard();
                return Err(error.into());
            }
        };
        if actual != *digest {
            session.staged.discard()?;
            return Err(Failure::new(
                StatusCode::BAD_REQUEST,
                ErrorCode::DigestInvalid,
                "provided digest did not match uploaded content",
            )
            .with_detail(serde_json::json!({ "provided": digest.as_str(), "actual": actual.as_str() })));
        }
        let _guard = self.storage.lock(false)?;
        session.staged.publish(digest)?;
        repository.link_blob(digest)?;
        Ok(stored(repository, digest))
    }
}

/// Checks that a chunk follows what has arrived; `Content-Range` may be left out.
fn check_chunk(
    request: &Request<RequestBody>,
    received_bytes: u64,
    repository: &Repository,
    identity: &str,
) -> Result<(), Failure> {
    let Some(value) = header_text(request, &header::CONTENT_RANGE) else { return Ok(()) };
    let length = header_text(request, &header::CONTENT_LENGTH).and_then(|length| u64::from_str(length).ok());
    let Some((first, last)) = range::parse_chunk(value) else {
        let message = "malformed Content-Range";
        return Err(Failure::new(StatusCode::BAD_REQUEST, ErrorCode::BlobUploadInvalid, message));
    };
    if first != received_bytes {
        let message = format!("the chunk begins at {first}, but {received_bytes} bytes have arrived");
        return Err(Failure::new(StatusCode::RANGE_NOT_SATISFIABLE, ErrorCode::BlobUploadInvalid, message)
            .with_header("location", location(repository, identity))
            .with_header("range", range::format_received(received_bytes)));
    }
    if length.is_some_and(|length| Some(length) != (last - first).checked_add(1)) {
        let message = "Content-Range and Content-Length disagree";
        return Err(Failure::new(StatusCode::BAD_REQUEST, ErrorCode::SizeInvalid, message));
    }
    Ok(())
}

fn too_large() -> Failure {
    Failure::new(StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::SizeInvalid, "blob larger than this registry takes")
}

fn location(repository: &Repository, identity: &str) -> String {
    format!("/v2/{}/blobs/uploads/{identity}", repository.name())
}

fn progress(status: StatusCode, repository: &Repository, identity: &str, received_bytes: u64) -> Answer {
    let mut answer = respond::empty(status);
    respond::set(&mut answer, "location", &location(repository, identity));
    respond::set(&mut answer, "range", &range::format_received(received_bytes));
    respond::set(&mut answer, wire::header::UPLOAD_UUID, identity);
    answer
}

fn stored(repository: &Repository, digest: &Digest) -> Answer {
    let mut answer = respond::empty(StatusCode::CREATED);
    respond::set(&mut answer, "location", &format!("/v2/{}/blobs/{digest}", repository.name()));
    respond::set(&mut answer, wire::header::CONTENT_DIGEST, &digest.to_string());
    answer
}
