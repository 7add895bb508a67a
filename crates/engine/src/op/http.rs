//! `http://` and `https://`: one file, kept so that an unchanged one is not fetched again.
//!
//! ```text
//! <root>/downloads/<sha256 of the URL>/
//!   record.json                 the server's tag and the digest of what came last
//!   <sha256 of the content>/    the file under its name, mode 0600; never changed
//! ```
//! Nothing here is needed again: a build without it fetches.

use std::fs::{self, File, FileTimes};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use onetag_llb::{SourceOp, attribute};
use onetag_oci::{Algorithm, Digest, Digester};
use onetag_registry::content::BlobSink;
use onetag_solver::{Class, ExecContext, Kind, Op, OpError, Status};
use serde::{Deserialize, Serialize};

use super::{Session, StepError};
use crate::context::LocalContext;
use crate::provenance::Pin;
use crate::snapshot::Artifact;

/// How often progress is told.
const STATUS_INTERVAL: Duration = Duration::from_millis(150);

/// See the module.
pub(super) struct HttpSource {
    session: Arc<Session>,
    url: String,
    filename: String,
    checksum: Option<Digest>,
}

/// What is known of the last download.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Record {
    etag: Option<String>,
    digest: Option<Digest>,
}

impl HttpSource {
    pub(super) fn new(session: Arc<Session>, source: &SourceOp) -> Result<Self, StepError> {
        let attribute = |name: &str| source.attributes.get(name).cloned();
        let invalid = |name| StepError::Attribute { identifier: source.identifier.clone(), name };
        let filename = attribute(attribute::HTTP_FILENAME).unwrap_or_else(|| "download".to_owned());
        // A name from a URL may hold anything that percent-encoding can write.
        if filename.is_empty() || filename == "." || filename == ".." || filename.contains(['/', '\0']) {
            return Err(invalid(attribute::HTTP_FILENAME));
        }
        let checksum = attribute(attribute::HTTP_CHECKSUM).map(|text| text.parse());
        let checksum = checksum.transpose().map_err(|_| invalid(attribute::HTTP_CHECKSUM))?;
        Ok(Self { session, url: source.identifier.clone(), filename, checksum })
    }

    fn folder(&self) -> PathBuf {
        let key = Digest::sha256(self.url.as_bytes());
        self.session.store.root().join("downloads").join(key.encoded())
    }

    /// The folder with the file, fetched unless it is there.
    fn fetch(&self, context: &ExecContext<'_>) -> Result<PathBuf, StepError> {
        let folder = self.folder();
        let record = fs::read(folder.join("record.json")).ok();
        let record: Record = record.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        if let Some(checksum) = &self.checksum
            && let Some(place) = self.place(&folder, checksum)
        {
            return Ok(place);
        }
        let known = record.digest.as_ref().and_then(|digest| self.place(&folder, digest));
        fs::create_dir_all(&folder).map_err(io_error("make", &folder))?;
        let mut sink = FileSink::create(&folder, self.digest_algorithm(), context)?;
        let etag = record.etag.as_deref().filter(|_| known.is_some());
        let download = self.session.engine.client()?.download(&self.url, etag, &mut sink)?;
        match known {
            Some(place) if download.is_unchanged => Ok(place),
            _ => {
                let digest = sink.digester.clone().finish();
                if let Some(expected) = &self.checksum
                    && digest != *expected
                {
                    return Err(StepError::Checksum { actual: digest, expected: expected.clone() });
                }
                let record = Record { etag: download.etag, digest: Some(digest.clone()) };
                self.keep(&folder, sink, &digest, download.last_modified.as_deref(), &record)
            }
        }
    }

    fn digest_algorithm(&self) -> Algorithm {
        self.checksum.as_ref().map_or(Algorithm::Sha256, Digest::algorithm)
    }

    /// Where content of a digest is, if it is there under the name asked for.
    fn place(&self, folder: &Path, digest: &Digest) -> Option<PathBuf> {
        let place = folder.join(digest.encoded());
        place.join(&self.filename).is_file().then_some(place)
    }

    fn keep(
        &self,
        folder: &Path,
        mut sink: FileSink<'_>,
        digest: &Digest,
        last_modified: Option<&str>,
        record: &Record,
    ) -> Result<PathBuf, StepError> {
        let place = folder.join(digest.encoded());
        fs::create_dir_all(&place).map_err(io_error("make", &place))?;
        let path = place.join(&self.filename);
        let modified = last_modified.and_then(http_time).unwrap_or(SystemTime::UNIX_EPOCH);
        sink.file.flush().map_err(io_error("write", &path))?;
        sink.file.set_times(FileTimes::new().set_modified(modified)).map_err(io_error("set the time of", &path))?;
        fs::rename(&sink.path, &path).map_err(io_error("keep", &path))?;
        sink.is_kept = true;
        let text = serde_json::to_vec(record).unwrap_or_default();
        // Without the record the file is only fetched again.
        let _ = fs::write(folder.join("record.json"), text);
        Ok(place)
    }
}

fn io_error(action: &str, path: &Path) -> impl FnOnce(io::Error) -> StepError {
    let action = format!("{action} {}", path.display());
    move |source| StepError::Io { action, source }
}

/// A time as HTTP writes it: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_time(text: &str) -> Option<SystemTime> {
    let time = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(SystemTime::from(time))
}

impl Op<Artifact> for HttpSource {
    fn kind(&self) -> Kind {
        Kind::Source
    }

    fn is_fetched(&self) -> bool {
        true
    }

    fn class(&self) -> Class {
        Class::Light
    }

    fn execute(&self, _: &[Artifact], context: &ExecContext<'_>) -> Result<Vec<Artifact>, OpError> {
        let place = self.fetch(context)?;
        // The folder is called after what is in it.
        let digest = place.file_name().and_then(|name| name.to_str());
        let digest = digest.and_then(|hex| format!("{}:{hex}", self.digest_algorithm().name()).parse().ok());
        if let Some(digest) = digest {
            self.session.sources.pins.note(context.vertex(), Pin::File(digest));
        }
        let local = LocalContext::open(&place, &[], &[]).map_err(StepError::from)?;
        Ok(vec![Artifact::Local(Arc::new(local))])
    }
}

/// Writes a file and hashes what is written; what is not kept is removed.
struct FileSink<'a> {
    path: PathBuf,
    file: File,
    digester: Digester,
    algorithm: Algorithm,
    written_bytes: u64,
    is_kept: bool,
    context: &'a ExecContext<'a>,
    started: SystemTime,
    told: SystemTime,
}

impl<'a> FileSink<'a> {
    fn create(folder: &Path, algorithm: Algorithm, context: &'a ExecContext<'a>) -> Result<Self, StepError> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!(".part-{}-{number}", std::process::id()));
        let file = File::create(&path).map_err(io_error("make", &path))?;
        file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(io_error("make", &path))?;
        let now = SystemTime::now();
        Ok(Self {
            path,
            file,
            digester: Digester::new(algorithm),
            algorithm,
            written_bytes: 0,
            is_kept: false,
            context,
            started: now,
            told: now,
        })
    }
}

impl BlobSink for FileSink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.context.is_cancelled() {
            return Err(io::Error::other("cancelled"));
        }
        self.file.write_all(bytes)?;
        self.digester.update(bytes);
        self.written_bytes += bytes.len() as u64;
        if self.told.elapsed().is_ok_and(|passed| passed >= STATUS_INTERVAL) {
            self.told = SystemTime::now();
            self.context.status(Status {
                id: "downloading".to_owned(),
                current: self.written_bytes,
                total: 0,
                started: self.started,
                completed: None,
            });
        }
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        self.file = File::create(&self.path)?;
        self.file.set_permissions(fs::Permissions::from_mode(0o600))?;
        self.digester = Digester::new(self.algorithm);
        self.written_bytes = 0;
        Ok(())
    }
}

impl Drop for FileSink<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            // What cannot be removed is removed by pruning.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_http_writes_them() {
        let time = http_time("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs(), 784_111_777);
        assert_eq!(http_time("yesterday"), None);
    }
}
