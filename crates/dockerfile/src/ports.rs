//! The words of `EXPOSE`: a port or a range of ports with a protocol, and for the sake of old files
//! an address and a host port in front, which mean nothing.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::values::quote;

/// Why a word of `EXPOSE` is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// Nothing where a port belongs.
    #[error("invalid port: {}: no port specified", quote(.0))]
    NoPort(String),
    /// Not `tcp`, `udp` or `sctp`.
    #[error("invalid port: {}: invalid proto: {protocol}", quote(.word))]
    Protocol {
        /// The word.
        word: String,
        /// Its protocol.
        protocol: String,
    },
    /// Not an address.
    #[error("invalid IP address: {0}")]
    Address(String),
    /// Brackets that do not fit.
    #[error("invalid IP address {word}: address {word}:: {reason}")]
    Brackets {
        /// The address.
        word: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Not a port or a range of them.
    #[error("invalid containerPort: {0}")]
    Port(String),
    /// Not a port or a range of them.
    #[error("invalid hostPort: {0}")]
    HostPort(String),
    /// Two ranges of different length.
    #[error("invalid ranges specified for container and host Ports: {container} and {host}")]
    Ranges {
        /// The range of the container.
        container: String,
        /// The range of the host.
        host: String,
    },
}

/// Reads one word, its variables already expanded. What is questionable about it is reported even
/// where it is wrong.
pub fn parse(word: &str) -> (Result<PortRange, PortError>, Findings) {
    let (address, host, container) = split(word);
    let (port, protocol) = container.split_once('/').unwrap_or((container, ""));
    let mut findings = Findings::default();
    if port.is_empty() {
        return (Err(PortError::NoPort(word.to_owned())), findings);
    }
    let lower = protocol.to_lowercase();
    let name = match lower.as_str() {
        "" | "tcp" => "tcp",
        "udp" => "udp",
        "sctp" => "sctp",
        _ => {
            let error = PortError::Protocol { word: word.to_owned(), protocol: protocol.to_owned() };
            return (Err(error), findings);
        }
    };
    findings.protocol_casing = protocol != lower;
    findings.has_mapping = !address.is_empty() || !host.is_empty();
    (ports(&address, host, port, name), findings)
}

/// Ports that follow one another. They stay a range, because a few characters may name all there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// The first port.
    pub first: u16,
    /// The last port, not below the first.
    pub last: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: &'static str,
}

impl PortRange {
    /// Every port as image configs name it: `80/tcp`.
    pub fn names(self) -> impl Iterator<Item = String> {
        (self.first..=self.last).map(move |port| format!("{port}/{}", self.protocol))
    }
}

/// What is questionable about a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// The protocol has upper-case letters.
    pub protocol_casing: bool,
    /// There is an address or a host port.
    pub has_mapping: bool,
}

fn ports(address: &str, host: &str, port: &str, protocol: &'static str) -> Result<PortRange, PortError> {
    check_address(address)?;
    let (first, last) = range(port).ok_or_else(|| PortError::Port(port.to_owned()))?;
    if !host.is_empty() {
        let (host_start, host_end) = range(host).ok_or_else(|| PortError::HostPort(host.to_owned()))?;
        // A single port may be given a range to choose from.
        if last - first != host_end - host_start && first != last {
            return Err(PortError::Ranges { container: port.to_owned(), host: host.to_owned() });
        }
    }
    Ok(PortRange { first, last, protocol })
}

/// Address, host port and the rest.
fn split(word: &str) -> (String, &str, &str) {
    let parts: Vec<&str> = word.split(':').collect();
    match parts.as_slice() {
        [container] => (String::new(), "", container),
        [host, container] => (String::new(), host, container),
        [address @ .., host, container] => (address.join(":"), host, container),
        [] => (String::new(), "", word),
    }
}

fn check_address(address: &str) -> Result<(), PortError> {
    if address.is_empty() {
        return Ok(());
    }
    let inner = match address.strip_prefix('[') {
        None => address,
        Some(rest) => {
            let brackets = |reason| PortError::Brackets { word: address.to_owned(), reason };
            let end = rest.find(']').ok_or_else(|| brackets("missing ']' in address"))?;
            let (inner, after) = rest.split_at(end);
            if after.len() > 1 {
                let reason =
                    if after[1..].starts_with(':') { "too many colons in address" } else { "missing port in address" };
                return Err(brackets(reason));
            }
            if inner.contains('[') {
                return Err(brackets("unexpected '[' in address"));
            }
            inner
        }
    };
    if inner.is_empty() || inner.parse::<Ipv4Addr>().is_ok() || inner.parse::<Ipv6Addr>().is_ok() {
        return Ok(());
    }
    Err(PortError::Address(inner.to_owned()))
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (start, end) = text.split_once('-').unwrap_or((text, text));
    let (start, end) = (number(start)?, number(end)?);
    (start <= end).then_some((start, end))
}

fn number(text: &str) -> Option<u16> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    // A minus may stand before zero.
    let digits = digits.strip_prefix('-').filter(|rest| rest.bytes().all(|b| b == b'0')).unwrap_or(digits);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let significant = digits.trim_start_matches('0');
    if significant.is_empty() { Some(0) } else { significant.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_name_ports_and_ranges() {
        let ok = |word| parse(word).0.unwrap().names().collect::<Vec<_>>();
        assert_eq!(ok("80"), ["80/tcp"]);
        assert_eq!(ok("80-82/UDP"), ["80/udp", "81/udp", "82/udp"]);
        assert_eq!(ok("127.0.0.1:8080:80"), ["80/tcp"]);
        assert_eq!(ok("[::1]:1-3:80"), ["80/tcp"]);
        assert_eq!(parse("0-65535/sctp").0, Ok(PortRange { first: 0, last: 65_535, protocol: "sctp" }));
        assert_eq!(parse("99999").0.unwrap_err().to_string(), "invalid containerPort: 99999");
        assert_eq!(parse("80/x").0.unwrap_err().to_string(), "invalid port: \"80/x\": invalid proto: x");
        assert_eq!(parse("1.2.3:1:80").0.unwrap_err().to_string(), "invalid IP address: 1.2.3");
        assert!(parse("5:80/TCP").1.has_mapping && parse("5:80/TCP").1.protocol_casing);
    }
}
