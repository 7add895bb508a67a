//! Records that can be made again: the solver's cache, the stat cache, memos of exports.
//!
//! ```text
//! records(namespace, key, value, used, resources)
//!     bytes by key, with the second of the last use, and what of the store a record needs, one a line
//! ```
//!
//! What a record needs stands in its own row: the tenth step of a build needs nine layers and the hundredth ninety-nine,
//! and rows of their own would make a build's work grow with the square of its steps. Only collection asks the other
//! way round, which record needs something, and reads them all. The table has row ids, so that a search by key does not
//! read the values that it passes, some of which have megabytes.
//!
//! The file is never the only copy of anything: where it is damaged it is put aside and begun anew.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, ErrorCode, OptionalExtension, TransactionBehavior, params};

use crate::error::{Error, Result};
use crate::leases::Resource;

/// The schema's version; another one is thrown away.
const VERSION: i64 = 3;
/// How long another process's transaction is waited for.
const BUSY: Duration = Duration::from_secs(30);
/// A record's last use is written again only after this many seconds, so that reading stays reading.
const USE_GRANULARITY: i64 = 600;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS records (
        namespace TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, used INTEGER NOT NULL, resources TEXT NOT NULL,
        PRIMARY KEY (namespace, key));
";

/// Bytes by key in namespaces, shared by processes. Behind a trait, so that tests can count and fail.
pub trait RecordStorage: Send + Sync {
    /// A record's value. Counts as a use.
    fn get(&self, namespace: &str, key: &[u8]) -> Result<Option<Vec<u8>>>;
    /// Sets a record. As long as it exists, collection keeps `resources`. They MUST be held when this is called.
    fn put(&self, namespace: &str, key: &[u8], value: &[u8], resources: &[Resource]) -> Result<()>;
    /// Removes a record. Gives whether it was there.
    fn remove(&self, namespace: &str, key: &[u8]) -> Result<bool>;
    /// All records of a namespace in the order of their keys.
    fn list(&self, namespace: &str) -> Result<Vec<Record>>;
}

/// A record as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
    /// The last use, in seconds since 1970, to within ten minutes.
    pub used: u64,
    /// What the record keeps from being collected.
    pub resources: Vec<Resource>,
}

/// The database in `cache.db`, opened on first use.
pub struct Database {
    path: PathBuf,
    connection: Mutex<Option<Connection>>,
}

impl Database {
    pub(crate) fn new(path: PathBuf) -> Database {
        Database { path, connection: Mutex::new(None) }
    }

    /// Runs `action` on the open connection. A damaged file is put aside once and begun anew.
    fn with<T>(&self, action: impl Fn(&mut Connection) -> rusqlite::Result<T>) -> Result<T> {
        let mut slot = self.lock();
        let first = run(&self.path, &mut slot, &action);
        let error = match first {
            Err(error) if is_damage(&error) => {
                *slot = None;
                set_aside(&self.path);
                match run(&self.path, &mut slot, &action) {
                    Ok(value) => return Ok(value),
                    Err(error) => error,
                }
            }
            Err(error) => error,
            Ok(value) => return Ok(value),
        };
        Err(Error::Database { path: self.path.clone(), source: error })
    }

    /// What is wrong with the file, or `None`.
    pub(crate) fn damage(&self) -> Result<Option<String>> {
        if !self.path.exists() {
            return Ok(None);
        }
        let connection = match open(&self.path) {
            Err(error) if is_damage(&error) => return Ok(Some(error.to_string())),
            opened => opened.map_err(|source| Error::Database { path: self.path.clone(), source })?,
        };
        match connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0)) {
            Ok(answer) if answer == "ok" => Ok(None),
            Ok(answer) => Ok(Some(answer)),
            Err(error) => Ok(Some(error.to_string())),
        }
    }

    /// Puts the file aside; the next use begins a new one.
    pub(crate) fn begin_anew(&self) {
        *self.lock() = None;
        set_aside(&self.path);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Connection>> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All resources that records keep, each with the latest use of a record that needs it.
    pub(crate) fn kept_resources(&self) -> Result<Vec<(Resource, u64)>> {
        if !self.path.exists() {
            return Ok(Vec::new());
        }
        self.with(|connection| {
            let mut statement = connection.prepare("SELECT resources, used FROM records WHERE resources <> ''")?;
            let mut rows = statement.query([])?;
            let mut latest: HashMap<String, u64> = HashMap::new();
            while let Some(row) = rows.next()? {
                let used = u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0);
                for name in row.get_ref(0)?.as_str()?.lines() {
                    match latest.get_mut(name) {
                        Some(known) => *known = used.max(*known),
                        None => drop(latest.insert(name.to_owned(), used)),
                    }
                }
            }
            Ok(latest.into_iter().filter_map(|(name, used)| Some((name.parse().ok()?, used))).collect())
        })
    }

    /// Removes the records that need a resource, because the resource is gone or about to go.
    pub(crate) fn remove_needing(&self, resources: &[Resource]) -> Result<u64> {
        if resources.is_empty() || !self.path.exists() {
            return Ok(0);
        }
        let gone: HashSet<String> = resources.iter().map(Resource::to_string).collect();
        self.with(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mut removed = 0;
            for (namespace, key) in needing(&transaction, &gone)? {
                removed += transaction
                    .prepare_cached("DELETE FROM records WHERE namespace = ?1 AND key = ?2")?
                    .execute(params![namespace, key])?;
            }
            transaction.commit()?;
            Ok(removed as u64)
        })
    }

    /// Removes the records last used before `second`.
    pub(crate) fn remove_unused_since(&self, second: u64) -> Result<u64> {
        if !self.path.exists() {
            return Ok(0);
        }
        let second = i64::try_from(second).unwrap_or(i64::MAX);
        self.with(|connection| {
            let removed = connection.execute("DELETE FROM records WHERE used < ?1", [second])?;
            Ok(removed as u64)
        })
    }
}

/// Namespaces and keys of the records that need one of `resources`.
fn needing(connection: &Connection, resources: &HashSet<String>) -> rusqlite::Result<Vec<(String, Vec<u8>)>> {
    let mut statement = connection.prepare("SELECT namespace, key, resources FROM records WHERE resources <> ''")?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        if row.get_ref(2)?.as_str()?.lines().any(|name| resources.contains(name)) {
            found.push((row.get(0)?, row.get(1)?));
        }
    }
    Ok(found)
}

impl RecordStorage for Database {
    fn get(&self, namespace: &str, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.with(|connection| {
            let found = connection
                .prepare_cached("SELECT value, used FROM records WHERE namespace = ?1 AND key = ?2")?
                .query_row(params![namespace, key], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, i64>(1)?)))
                .optional()?;
            let Some((value, used)) = found else { return Ok(None) };
            if now() - used > USE_GRANULARITY {
                connection
                    .prepare_cached("UPDATE records SET used = ?3 WHERE namespace = ?1 AND key = ?2")?
                    .execute(params![namespace, key, now()])?;
            }
            Ok(Some(value))
        })
    }

    fn put(&self, namespace: &str, key: &[u8], value: &[u8], resources: &[Resource]) -> Result<()> {
        let names: BTreeSet<String> = resources.iter().map(Resource::to_string).collect();
        let lines = names.into_iter().collect::<Vec<_>>().join("\n");
        self.with(|connection| {
            connection
                .prepare_cached("INSERT OR REPLACE INTO records VALUES (?1, ?2, ?3, ?4, ?5)")?
                .execute(params![namespace, key, value, now(), lines])
                .map(drop)
        })
    }

    fn remove(&self, namespace: &str, key: &[u8]) -> Result<bool> {
        self.with(|connection| {
            let removed = connection
                .prepare_cached("DELETE FROM records WHERE namespace = ?1 AND key = ?2")?
                .execute(params![namespace, key])?;
            Ok(removed > 0)
        })
    }

    fn list(&self, namespace: &str) -> Result<Vec<Record>> {
        self.with(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT key, value, used, resources FROM records WHERE namespace = ?1 ORDER BY key")?;
            let mut rows = statement.query([namespace])?;
            let mut records = Vec::new();
            while let Some(row) = rows.next()? {
                records.push(Record {
                    key: row.get(0)?,
                    value: row.get(1)?,
                    used: u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0),
                    resources: row.get_ref(3)?.as_str()?.lines().filter_map(|name| name.parse().ok()).collect(),
                });
            }
            Ok(records)
        })
    }
}

fn run<T>(
    path: &Path,
    slot: &mut Option<Connection>,
    action: &impl Fn(&mut Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let connection = match slot {
        Some(connection) => connection,
        empty => empty.insert(open(path)?),
    };
    action(connection)
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version != VERSION {
        // Processes that open a new database at once queue here; each step repeats harmlessly.
        connection.execute_batch("PRAGMA journal_mode = WAL; BEGIN IMMEDIATE")?;
        if version != 0 {
            connection.execute_batch("DROP TABLE IF EXISTS records; DROP TABLE IF EXISTS record_resources")?;
        }
        connection.execute_batch(SCHEMA)?;
        connection.execute_batch(&format!("PRAGMA user_version = {VERSION}; COMMIT"))?;
    }
    // Records are rebuildable: a crash of the machine may lose the last ones, never the file.
    connection.execute_batch("PRAGMA synchronous = NORMAL; PRAGMA temp_store = MEMORY")?;
    Ok(connection)
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Moves a damaged database out of the way, its log with it.
fn set_aside(path: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let mut from = path.as_os_str().to_owned();
        from.push(suffix);
        let mut to = path.as_os_str().to_owned();
        to.push(format!(".damaged{suffix}"));
        // Where even this fails, opening fails next and says why.
        let _ = std::fs::rename(from, to);
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
