//! Bodies of requests: bytes at hand, or what a blocking reader yields on the calling thread.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

/// The body of a request.
pub(crate) enum RequestBody {
    /// Bytes at hand.
    Full(Option<Bytes>),
    /// Chunks from elsewhere, and their total length when it is known.
    Stream { chunks: mpsc::Receiver<io::Result<Bytes>>, remaining_bytes: Option<u64> },
}

impl RequestBody {
    pub(crate) fn full(bytes: Bytes) -> Self {
        RequestBody::Full(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            RequestBody::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            RequestBody::Stream { chunks, remaining_bytes } => chunks.poll_recv(cx).map(|chunk| {
                let chunk = chunk?;
                if let (Ok(chunk), Some(remaining)) = (&chunk, remaining_bytes) {
                    *remaining = remaining.saturating_sub(chunk.len() as u64);
                }
                Some(chunk.map(Frame::data))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RequestBody::Full(bytes) => bytes.is_none(),
            RequestBody::Stream { remaining_bytes, .. } => *remaining_bytes == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RequestBody::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            RequestBody::Stream { remaining_bytes: Some(remaining), .. } => SizeHint::with_exact(*remaining),
            RequestBody::Stream { remaining_bytes: None, .. } => SizeHint::default(),
        }
    }
}
