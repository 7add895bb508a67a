//! `--add-host` and sizes, which `run` and `build` share.

use std::net::IpAddr;

use onetag_engine::flags;

use crate::error::{CommandError, CommandResult};

/// Parses `--add-host`: `name:address` or `name=address`; an IPv6 address may stand in brackets.
///
/// # Errors
/// Naming what is wrong.
pub fn parse_host(text: &str) -> CommandResult<(String, IpAddr)> {
    let bad = || CommandError::new(format!("bad format for add-host: {text:?}"));
    let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).ok_or_else(bad)?;
    if name.is_empty() {
        return Err(bad());
    }
    if address == "host-gateway" {
        return Ok((name.to_owned(), IpAddr::from([127, 0, 0, 1])));
    }
    let bare = address.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(address);
    let address =
        bare.parse().map_err(|_| CommandError::new(format!("invalid IP address in add-host: {address:?}")))?;
    Ok((name.to_owned(), address))
}

/// Parses a size in bytes that cannot be negative: `64m`, `1.5g`.
///
/// # Errors
/// For what is none.
pub fn parse_size(text: &str) -> CommandResult<u64> {
    let bytes = flags::parse_bytes(text)?;
    u64::try_from(bytes).map_err(|_| CommandError::new(format!("invalid size: '{text}'")))
}

#[cfg(test)]
mod tests {
    use super::{parse_host, parse_size};

    #[test]
    fn hosts_have_an_address() {
        assert_eq!(parse_host("a:1.2.3.4").unwrap(), ("a".to_owned(), "1.2.3.4".parse().unwrap()));
        assert_eq!(parse_host("a=[::1]").unwrap(), ("a".to_owned(), "::1".parse().unwrap()));
        assert_eq!(parse_host("a:::1").unwrap(), ("a".to_owned(), "::1".parse().unwrap()));
        assert!(parse_host("a").is_err());
        assert!(parse_host("a:b").is_err());
    }

    #[test]
    fn sizes_are_not_negative() {
        assert_eq!(parse_size("1k").unwrap(), 1024);
        assert!(parse_size("-1").is_err());
    }
}
