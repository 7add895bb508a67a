//! Bytes as text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Base64 with the usual alphabet, padded (RFC 4648, section 4).
pub(crate) fn base64(data: &[u8]) -> String {
    STANDARD.encode(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_encoded() {
        assert_eq!(base64(b"x-access-token:abc"), "eC1hY2Nlc3MtdG9rZW46YWJj");
        assert_eq!(base64(b"ab"), "YWI=");
        assert_eq!(base64(b""), "");
    }
}
