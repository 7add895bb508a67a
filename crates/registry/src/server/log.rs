//! The access log: one record a request.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use serde_json::json;

/// Takes the records of requests; called on the server's threads, so it should be quick.
pub type AccessLog = dyn Fn(&AccessRecord<'_>) + Send + Sync;

/// One request and its answer.
#[derive(Debug, Clone)]
pub struct AccessRecord<'a> {
    /// When the request arrived.
    pub time: SystemTime,
    /// Who made it.
    pub client: SocketAddr,
    /// As whom, where users are known.
    pub user: Option<&'a str>,
    /// Its method.
    pub method: &'a str,
    /// The protocol it came over: `HTTP/1.1`, `HTTP/2.0`.
    pub protocol: &'a str,
    /// Its path, without the query.
    pub path: &'a str,
    /// What the client calls itself.
    pub user_agent: &'a str,
    /// The answer's status.
    pub status: u16,
    /// Size of the answer's body in bytes.
    pub size_bytes: u64,
    /// Time until the answer began.
    pub took: Duration,
    /// Why the registry itself failed, in case it did.
    pub cause: Option<&'a str>,
}

impl AccessRecord<'_> {
    /// The record as one line of JSON, without the line's end.
    pub fn to_json(&self) -> String {
        let seconds = self.time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let mut record = json!({
            "time": seconds,
            "client": self.client.to_string(),
            "user": self.user,
            "protocol": self.protocol,
            "method": self.method,
            "path": self.path,
            "status": self.status,
            "bytes": self.size_bytes,
            "milliseconds": self.took.as_secs_f64() * 1000.0,
            "agent": self.user_agent,
        });
        if let (Some(cause), Some(members)) = (self.cause, record.as_object_mut()) {
            members.insert("cause".to_owned(), cause.into());
        }
        record.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_of_json() {
        let record = AccessRecord {
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(1500),
            client: SocketAddr::from(([127, 0, 0, 1], 9)),
            user: None,
            method: "GET",
            protocol: "HTTP/1.1",
            path: "/v2/\n\"",
            user_agent: "x",
            status: 500,
            size_bytes: 3,
            took: Duration::from_millis(2),
            cause: Some("disk"),
        };
        let line = record.to_json();
        assert!(!line.contains('\n'));
        let parsed: serde_json::Value = serde_json::from_str(&line).expect("json");
        assert_eq!(parsed["time"], 1.5);
        assert_eq!(parsed["path"], "/v2/\n\"");
        assert_eq!(parsed["cause"], "disk");
    }
}
