//! Answers: their bodies, and failures with the protocol's error codes.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};

use super::storage::{Content, StorageError};
use crate::wire::errors::{ErrorBody, ErrorCode, ErrorEntry};

/// Bytes of a blob that are read and handed to the connection at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// The body of an answer.
pub(crate) enum ResponseBody {
    /// Bytes at hand.
    Full(Option<Bytes>),
    /// A part of stored content.
    Stored(StoredBody),
}

/// A part of stored content on its way out.
pub(crate) struct StoredBody {
    pub(super) content: Box<dyn Content>,
    pub(super) offset_bytes: u64,
    pub(super) remaining_bytes: u64,
    /// The chunk before last, whose memory is used again once the connection has let go of it.
    spare: [Option<Bytes>; 2],
}

impl StoredBody {
    pub(crate) fn new(content: Box<dyn Content>, offset_bytes: u64, length_bytes: u64) -> Self {
        StoredBody { content, offset_bytes, remaining_bytes: length_bytes, spare: [None, None] }
    }

    fn buffer(&mut self, size: usize) -> BytesMut {
        for slot in &mut self.spare {
            let Some(bytes) = slot.take() else { continue };
            match bytes.try_into_mut() {
                Ok(mut buffer) => {
                    buffer.resize(size, 0);
                    return buffer;
                }
                Err(bytes) => *slot = Some(bytes),
            }
        }
        BytesMut::zeroed(size)
    }

    pub(super) fn next(&mut self) -> Option<std::io::Result<Bytes>> {
        if self.remaining_bytes == 0 {
            return None;
        }
        let size = usize::try_from(self.remaining_bytes).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        let mut buffer = self.buffer(size);
        let read = match self.content.read_at(&mut buffer, self.offset_bytes) {
            Ok(0) => return Some(Err(std::io::ErrorKind::UnexpectedEof.into())),
            Ok(read) => read,
            Err(error) => return Some(Err(error)),
        };
        buffer.truncate(read);
        self.offset_bytes += read as u64;
        self.remaining_bytes -= read as u64;
        let chunk = buffer.freeze();
        if let Some(slot) = self.spare.iter_mut().find(|slot| slot.is_none()) {
            *slot = Some(chunk.clone());
        }
        Some(Ok(chunk))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let next = match self.get_mut() {
            ResponseBody::Full(bytes) => bytes.take().map(Ok),
            ResponseBody::Stored(stored) => stored.next(),
        };
        Poll::Ready(next.map(|result| result.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ResponseBody::Full(bytes) => bytes.is_none(),
            ResponseBody::Stored(stored) => stored.remaining_bytes == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            ResponseBody::Full(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            ResponseBody::Stored(stored) => stored.remaining_bytes,
        })
    }
}

/// An answer.
pub(crate) type Answer = Response<ResponseBody>;

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(ResponseBody::Full(None));
    *answer.status_mut() = status;
    if !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        answer.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    answer
}

/// An answer with a JSON body.
pub(crate) fn json(status: StatusCode, value: &impl serde::Serialize) -> Answer {
    bytes(status, "application/json", Bytes::from(onetag_oci::go_json(value)))
}

/// An answer with bytes at hand.
pub(crate) fn bytes(status: StatusCode, content_type: &str, bytes: Bytes) -> Answer {
    let mut answer = Response::new(ResponseBody::Full(None));
    *answer.status_mut() = status;
    set(&mut answer, header::CONTENT_TYPE.as_str(), content_type);
    set(&mut answer, header::CONTENT_LENGTH.as_str(), &bytes.len().to_string());
    *answer.body_mut() = ResponseBody::Full(Some(bytes).filter(|bytes| !bytes.is_empty()));
    answer
}

/// Sets a header; values that HTTP does not allow are left out.
pub(crate) fn set(answer: &mut Answer, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(http::HeaderName::from_static(name), value);
    }
}

/// A request that is not fulfilled.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    entries: Vec<ErrorEntry>,
    headers: Vec<(&'static str, String)>,
    /// What the operator should know of it.
    pub(crate) cause: Option<String>,
}

impl Failure {
    pub(crate) fn new(status: StatusCode, code: ErrorCode, message: impl Into<String>) -> Self {
        let entry =
            ErrorEntry { code: code.as_str().to_owned(), message: message.into(), detail: serde_json::Value::Null };
        Failure { status, entries: vec![entry], headers: Vec::new(), cause: None }
    }

    /// Adds an entry of the same code.
    pub(crate) fn and(mut self, code: ErrorCode, message: impl Into<String>) -> Self {
        let entry =
            ErrorEntry { code: code.as_str().to_owned(), message: message.into(), detail: serde_json::Value::Null };
        self.entries.push(entry);
        self
    }

    pub(crate) fn with_detail(mut self, detail: serde_json::Value) -> Self {
        if let Some(entry) = self.entries.last_mut() {
            entry.detail = detail;
        }
        self
    }

    pub(crate) fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn into_answer(self) -> Answer {
        let mut answer = json(self.status, &ErrorBody { errors: self.entries });
        for (name, value) in &self.headers {
            set(&mut answer, name, value);
        }
        answer
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        let (status, message) = if error.is_full() {
            (StatusCode::INSUFFICIENT_STORAGE, "no space left in the registry")
        } else {
            (StatusCode::INTERNAL_SERVER_ERROR, "the registry's storage failed")
        };
        let cause = format!("{error}: {}", error.source);
        Failure { cause: Some(cause), ..Failure::new(status, ErrorCode::Unknown, message) }
    }
}
