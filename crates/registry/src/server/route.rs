//! Paths of the API.

use crate::wire::query;

/// What a path is about; names and digests are still text, because what is wrong with them decides the error code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// `/v2/`
    Base,
    /// `/v2/_catalog`
    Catalog,
    /// `/healthz`
    Health,
    /// `/v2/<name>/tags/list`
    Tags { name: String },
    /// `/v2/<name>/manifests/<tag or digest>`
    Manifest { name: String, reference: String },
    /// `/v2/<name>/blobs/<digest>`
    Blob { name: String, digest: String },
    /// `/v2/<name>/blobs/uploads/`
    Uploads { name: String },
    /// `/v2/<name>/blobs/uploads/<identity>`
    Upload { name: String, identity: String },
    /// `/v2/<name>/referrers/<digest>`
    Referrers { name: String, digest: String },
}

/// Finds the route of a path; `None` for paths that are not of the API.
pub(crate) fn parse(path: &str) -> Option<Route> {
    let rest = match path {
        "/v2" | "/v2/" => return Some(Route::Base),
        "/v2/_catalog" | "/v2/_catalog/" => return Some(Route::Catalog),
        "/healthz" => return Some(Route::Health),
        path => path.strip_prefix("/v2/")?,
    };
    let decoded = if rest.contains('%') { query::decode(&rest.replace('+', "%2B"))? } else { rest.to_owned() };
    let mut segments: Vec<&str> = decoded.split('/').collect();
    let last = segments.pop()?;
    let before = segments.pop()?;
    let name = |segments: &[&str]| segments.join("/");
    match (before, last) {
        ("tags", "list") => Some(Route::Tags { name: name(&segments) }),
        ("manifests", reference) => Some(Route::Manifest { name: name(&segments), reference: reference.to_owned() }),
        ("referrers", digest) => Some(Route::Referrers { name: name(&segments), digest: digest.to_owned() }),
        ("blobs", "uploads") => Some(Route::Uploads { name: name(&segments) }),
        ("blobs", digest) => Some(Route::Blob { name: name(&segments), digest: digest.to_owned() }),
        ("uploads", identity) if segments.last() == Some(&"blobs") => {
            segments.pop();
            let name = name(&segments);
            Some(match identity {
                "" => Route::Uploads { name },
                identity => Route::Upload { name, identity: identity.to_owned() },
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn routes() {
        let name = || "a/b".to_owned();
        for (path, route) in [
            ("/v2/", Some(Route::Base)),
            ("/v2", Some(Route::Base)),
            ("/v1/", None),
            ("/v2/_catalog", Some(Route::Catalog)),
            ("/v2/a/b/tags/list", Some(Route::Tags { name: name() })),
            ("/v2/a/b/manifests/x", Some(Route::Manifest { name: name(), reference: "x".into() })),
            ("/v2/a/b/manifests/sha256%3Aab", Some(Route::Manifest { name: name(), reference: "sha256:ab".into() })),
            ("/v2/a/b/blobs/sha256:ab", Some(Route::Blob { name: name(), digest: "sha256:ab".into() })),
            ("/v2/a/b/blobs/uploads/", Some(Route::Uploads { name: name() })),
            ("/v2/a/b/blobs/uploads", Some(Route::Uploads { name: name() })),
            ("/v2/a/b/blobs/uploads/id", Some(Route::Upload { name: name(), identity: "id".into() })),
            ("/v2/a/b/referrers/sha256:ab", Some(Route::Referrers { name: name(), digest: "sha256:ab".into() })),
            ("/v2/tags/list/tags/list", Some(Route::Tags { name: "tags/list".into() })),
            ("/v2/a/b", None),
            ("/v2/manifests/x", Some(Route::Manifest { name: String::new(), reference: "x".into() })),
        ] {
            assert_eq!(parse(path), route, "{path}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(path in ".*") {
            let _ = parse(&path);
            let _ = parse(&format!("/v2/{path}"));
        }
    }
}
