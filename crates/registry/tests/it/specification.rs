//! The sentences of the distribution specification with MUST and SHOULD in them, one by one.

use onetag_oci::{Algorithm, Digest, media_type};

use crate::scripted::{Answer, Asked, forward};
use crate::support::{TestRegistry, noise};

/// A client that says exactly what a test wants said.
pub struct Raw<'a>(pub &'a TestRegistry);

impl Raw<'_> {
    pub fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let host = [("host".to_owned(), self.0.host())];
        let headers: Vec<_> = host.into_iter().chain::<Vec<_>>(headers).collect();
        let asked = Asked { method: method.into(), target: target.into(), headers, body: body.to_vec() };
        forward(self.0.address(), &asked)
    }

    pub fn get(&self, target: &str) -> Answer {
        self.ask("GET", target, &[], b"")
    }

    pub fn head(&self, target: &str) -> Answer {
        self.ask("HEAD", target, &[], b"")
    }

    pub fn delete(&self, target: &str) -> Answer {
        self.ask("DELETE", target, &[], b"")
    }

    pub fn begin(&self, repository: &str) -> String {
        let answer = self.ask("POST", &format!("/v2/{repository}/blobs/uploads/"), &[], b"");
        assert_eq!(answer.status, 202);
        answer.header("location").expect("a location").to_owned()
    }

    pub fn blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::sha256(bytes);
        let answer = self.ask("PUT", &format!("{}?digest={digest}", self.begin(repository)), &[], bytes);
        assert_eq!(answer.status, 201);
        digest
    }

    pub fn manifest(&self, target: &str, media_type: &str, bytes: &[u8]) -> Answer {
        self.ask("PUT", target, &[("content-type", media_type)], bytes)
    }

    /// An image of one config and no layers, with more members as given.
    pub fn image(&self, repository: &str, members: &str) -> Vec<u8> {
        let config = self.blob(repository, b"{}");
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{config}","size":2}},"layers":[]{members}}}"#,
            media_type::OCI_MANIFEST,
            media_type::EMPTY
        )
        .into_bytes()
    }
}

pub fn code(answer: &Answer) -> String {
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    body["errors"][0]["code"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn the_base_says_that_the_api_is_there() {
    let registry = TestRegistry::start();
    let raw = Raw(&registry);
    assert_eq!(raw.get("/v2/").status, 200);
    assert_eq!(raw.get("/v2").status, 200);
    assert_eq!(raw.get("/healthz").status, 200);
    assert_eq!(raw.get("/v1/").status, 404);
    assert_eq!(raw.ask("PATCH", "/v2/", &[], b"").status, 405);
}

#[test]
fn manifests_are_served_as_they_were_pushed() {
    let registry = TestRegistry::start();
    let raw = Raw(&registry);
    let bytes = raw.image("a/b", "");
    let digest = Digest::sha256(&bytes).to_string();
    let pushed = raw.manifest("/v2/a/b/manifests/v1", &format!("{}; charset=utf-8", media_type::OCI_MANIFEST), &bytes);
    assert_eq!(pushed.status, 201);
    assert_eq!(pushed.header("docker-content-digest"), Some(digest.as_str()));
    let location = pushed.header("location").expect("location").to_owned();
    for target in [location, format!("/v2/a/b/manifests/{digest}"), "/v2/a/b/manifests/v1".to_owned()] {
        let answer = raw.get(&target);
        assert_eq!((answer.status, &answer.body), (200, &bytes), "{target}");
        assert_eq!(answer.header("content-type"), Some(media_type::OCI_MANIFEST), "no parameters");
        assert_eq!(answer.header("docker-content-digest"), Some(digest.as_str()));
        let head = raw.head(&target);
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(head.header("content-length"), Some(bytes.len().to_string().as_str()));
        assert_eq!(head.header("docker-content-digest"), Some(digest.as_str()));
    }
    let known = raw.ask("GET", "/v2/a/b/manifests/v1", &[("if-none-match", &format!("\"{digest}\""))], b"");
    assert_eq!(known.status, 304);
}

#[test]
fn what_is_absent_has_the_right_code() {
    let registry = TestRegistry::start();
    let raw = Raw(&registry);
    let digest = Digest::sha256(b"absent");
    raw.blob("there", b"x");
    for (method, target, status, wanted) in [
        ("GET", "/v2/absent/manifests/latest".to_owned(), 404, "NAME_UNKNOWN"),
        ("GET", "/v2/there/manifests/latest".to_owned(), 404, "MANIFEST_UNKNOWN"),
        ("GET", format!("/v2/there/manifests/{digest}"), 404, "MANIFEST_UNKNOWN"),
        ("GET", "/v2/there/manifests/sha256:bad".to_owned(), 400, "DIGEST_INVALID"),
        ("GET", "/v2/there/manifests/.bad".to_owned(), 400, "MANIFEST_INVALID"),
        ("GET", format!("/v2/there/blobs/{digest}"), 404, "BLOB_UNKNOWN"),
        ("GET", "/v2/there/blobs/x".to_owned(), 400, "DIGEST_INVALID"),
        ("GET", "/v2/Bad/tags/list".to_owned(), 400, "NAME_INVALID"),
        ("GET", "/v2/absent/tags/list".to_owned(), 404, "NAME_UNKNOWN"),
        ("GET", "/v2/there/blobs/uploads/nothing".to_owned(), 404, "BLOB_UPLOAD_UNKNOWN"),
        ("PATCH", "/v2/there/blobs/uploads/../../x".to_owned(), 404, "NAME_UNKNOWN"),
        ("DELETE", format!("/v2/there/blobs/{digest}"), 404, "BLOB_UNKNOWN"),
        ("DELETE", format!("/v2/absent/manifests/{digest}"), 404, "NAME_UNKNOWN"),
        ("POST", "/v2/there/manifests/x".to_owned(), 405, "UNSUPPORTED"),
    ] {
        let answer = raw.ask(method, &target, &[], b"");
        assert_eq!((answer.status, code(&answer).as_str()), (status, wanted), "{method} {target}");
    }
    assert_eq!(raw.head(&format!("/v2/there/blobs/{digest}")).status, 404);
}

#[test]
fn blobs_are_served_whole_and_in_ranges() {
    let registry = TestRegistry::start();
    let raw = Raw(&registry);
    for size in [10, 100_000] {
        let blob = noise(size, 1);
        let digest = raw.blob("a", &blob);
        let target = format!("/v2/a/blobs/{digest}");
        let whole = raw.get(&target);
        assert_eq!((whole.status, &whole.body), (200, &blob));
        assert_eq!(whole.header("docker-content-digest"), Some(digest.as_str()));
        let head = raw.head(&target);
        assert_eq!((head.status, head.header("content-length")), (200, Some(size.to_string().as_str())));
        let part = raw.ask("GET", &target, &[("range", "bytes=3-6")], b"");
        assert_eq!((part.status, part.body.as_slice()), (206, &blob[3..7]));
        assert_eq!(part.header("content-range"), Some(format!("bytes 3-6/{size}").as_str()));
        let rest = raw.ask("GET", &target, &[("range", "bytes=5-")], b"");
        assert_eq!((rest.status, rest.body.as_slice()), (206, &blob[5..]));
        let outside = raw.ask("GET", &target, &[("range", &format!("bytes={size}-"))], b"");
        assert_eq!((outside.status, outside.header("content-range")), (416, Some(format!("bytes */{size}").as_str())));
    }
}

#[test]
fn blobs_arrive_in_every_way_and_under_every_digest() {
    let registry = TestRegistry::start();
    let raw = Raw(&registry);
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        for (way, size) in ["post", "put", "stream", "chunks", "last chunk"].into_iter().zip([0, 1, 70_000, 300_000, 9])
        {
            let blob = noise(size, size as u64 + 5);
            let digest = Digest::of(algorithm, &blob);
            let answer = match way {
                "post" => raw.ask("POST", &format!("/v2/a/blobs/uploads/?digest={digest}"), &[], &blob),
                "put" => raw.ask("PUT", &format!("{}?digest={digest}", raw.begin("a")), &[], &blob),
                "stream" => {
                    let patched = raw.ask("PATCH", &raw.begin("a"), &[], &blob);
                    assert_eq!(patched.status, 202);
                    let location = patched.header("location").expect("location").to_owned();
                    raw.ask("PUT", &format!("{location}?digest={digest}"), &[], b"")
                }
                _ => {
                    let target = format!("/v2/a/blobs/uploads/?digest-algorithm={}", algorithm.name());
                    let begun = raw.ask("POST", &target, &[], b"");
                    let mut location = begun.header("location").expect("location").to_owned();
                    let third = size / 3;
                    for (first, end) in [(0, third), (third, 2 * third), (2 * third, size)] {
                        let range = format!("{first}-{}", end - 1);
                        let last = way == "last chunk" && end == size;
                        let target = if last { format!("{location}?digest={digest}") } else { location.clone() };
                        let method = if last { "PUT" } else { "PATCH" };
                        let answer = raw.ask(method, &target, &[("content-range", &range)], &blob[first..end]);
                        if last {
                            break;
                        }
                        assert_eq!(answer.status, 202);
                        assert_eq!(answer.header("range"), Some(format!("0-{}", end - 1).as_str()));
                        location = answer.header("location").expect("location").to_owned();
                        let status = raw.get(&location);
                        assert_eq!((status.status, status.header("range")), (204, answer.header("range")));
                    }
                    if way == "last chunk" {
                        assert_eq!(raw.get(&format!("/v2/a/blobs/{digest}")).body, blob);
                        continue;
                    }
                    raw.ask("PUT", &format!("{location}?digest={digest}"), &[], b"")
                }
            };
            assert_eq!(answer.status, 201, "{way} {algorithm:?}");
            assert_eq!(answer.header("docker-content-digest"), Some(digest.as_str()));
            let location = answer.header("location").expect("location").to_owned();
            assert_eq!(raw.get(&location).body, blob, "{way}");
        }
    }
}

#[test]
fn chunks_out_of_order_are_refused_and_change_nothing() {
    let registry = TestRegistry::start();
    let raw = Raw(&registry);
    let blob = noise(60, 2);
    let digest = Digest::sha256(&blob);
    let location = raw.begin("a");
    let early = raw.ask("PATCH", &location, &[("content-range", "20-39")], &blob[20..40]);
    assert_eq!(early.status, 416);
    assert_eq!(raw.ask("PATCH", &location, &[("content-range", "0-19")], &blob[..20]).status, 202);
    let again = raw.ask("PATCH", &location, &[("content-range", "0-19")], &blob[..20]);
    assert_eq!((again.status, again.header("range")), (416, Some("0-19")));
    let wrong = raw.ask("PATCH", &location, &[("content-range", "20-99")], &blob[20..40]);
    assert_eq!((wrong.status, code(&wrong).as_str()), (400, "SIZE_INVALID"));
    let put = format!("{location}?digest={digest}");
    assert_eq!(raw.ask("PUT", &put, &[("content-range", "40-59")], &blob[40..]).status, 416);
    assert_eq!(raw.ask("PUT", &put, &[("content-range", "20-59")], &blob[20..]).status, 201);
    assert_eq!(raw.get(&format!("/v2/a/blobs/{digest}")).body, blob);
    assert_eq!(raw.get(&location).status, 404);
}

#[test]
fn wrong_digests_are_refused_and_store_nothing() {
    let registry = TestRegistry::start();
    let raw = Raw(&registry);
    let wrong = Digest::sha256(b"something else");
    for digest in [wrong.as_str(), "sha256:short", "md5:d41d8cd98f00b204e9800998ecf8427e", ""] {
        let at_once = raw.ask("POST", &format!("/v2/a/blobs/uploads/?digest={digest}"), &[], b"content");
        assert_eq!((at_once.status, code(&at_once).as_str()), (400, "DIGEST_INVALID"), "{digest}");
        let put = raw.ask("PUT", &format!("{}?digest={digest}", raw.begin("a")), &[], b"content");
        assert_eq!((put.status, code(&put).as_str()), (400, "DIGEST_INVALID"), "{digest}");
    }
    assert_eq!(raw.ask("PUT", &raw.begin("a"), &[], b"content").status, 400);
    assert_eq!(raw.head(&format!("/v2/a/blobs/{wrong}")).status, 404);
    assert_eq!(raw.ask("POST", "/v2/a/blobs/uploads/?digest-algorithm=md5", &[], b"").status, 400);
}

#[test]
fn uploads_can_be_cancelled() {
    let registry = TestRegistry::start();
    let raw = Raw(&registry);
    let location = raw.begin("a");
    assert_eq!(raw.ask("PATCH", &location, &[], b"some").status, 202);
    assert_eq!(raw.delete(&location).status, 204);
    assert_eq!(raw.get(&location).status, 404);
    assert_eq!(raw.delete(&location).status, 404);
    let left = std::fs::read_dir(registry.folder.path().join("arriving")).expect("folder").count();
    assert_eq!(left, 0);
}

#[test]
fn blobs_are_mounted_from_where_they_are() {
    let registry = TestRegistry::start();
    let raw = Raw(&registry);
    let digest = raw.blob("source", b"mounted");
    for (target, parameters, status) in [
        ("one", format!("mount={digest}&from=source"), 201),
        ("two", format!("mount={digest}"), 201),
        ("three", format!("mount={digest}&from=elsewhere"), 202),
        ("four", format!("mount={}&from=source", Digest::sha256(b"absent")), 202),
    ] {
        let answer = raw.ask("POST", &format!("/v2/{target}/blobs/uploads/?{parameters}"), &[], b"");
        assert_eq!(answer.status, status, "{target}");
        let location = answer.header("location").expect("location").to_owned();
        if status == 201 {
            assert_eq!(raw.get(&location).body, b"mounted");
        }
    }
}

#[test]
fn manifests_that_are_wrong_are_refused() {
    let registry = TestRegistry::start();
    let raw = Raw(&registry);
    let good = raw.image("a", "");
    let absent = Digest::sha256(b"absent");
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{}","digest":"{absent}","size":1}}]}}"#,
        media_type::OCI_MANIFEST
    );
    let layer = raw.image("a", "");
    let layer = String::from_utf8(layer).expect("text").replace(
        "\"layers\":[]",
        &format!("\"layers\":[{{\"mediaType\":\"{}\",\"digest\":\"{absent}\",\"size\":1}}]", media_type::OCI_LAYER),
    );
    let both =
        String::from_utf8(good.clone()).expect("text").replace("\"layers\":[]", "\"layers\":[],\"manifests\":[]");
    let cases: [(&str, &str, Vec<u8>, u16, &str); 8] = [
        ("v1", media_type::OCI_MANIFEST, b"no json".to_vec(), 400, "MANIFEST_INVALID"),
        ("v1", media_type::OCI_INDEX, good.clone(), 400, "MANIFEST_INVALID"),
        ("v1", media_type::OCI_MANIFEST, both.into_bytes(), 400, "MANIFEST_INVALID"),
        (
            "v1",
            "application/vnd.docker.distribution.manifest.v1+json",
            b"{\"schemaVersion\":1}".to_vec(),
            400,
            "MANIFEST_INVALID",
        ),
        ("v1", media_type::OCI_INDEX, index.into_bytes(), 400, "MANIFEST_BLOB_UNKNOWN"),
        ("v1", media_type::OCI_MANIFEST, layer.into_bytes(), 400, "MANIFEST_BLOB_UNKNOWN"),
        (absent.as_str(), media_type::OCI_MANIFEST, good.clone(), 400, "DIGEST_INVALID"),
        ("v1", media_type::OCI_MANIFEST, vec![b' '; 4 * 1024 * 1024 + 1], 413, "SIZE_INVALID"),
    ];
    for (target, media_type, bytes, status, wanted) in cases {
        let answer = raw.manifest(&format!("/v2/a/manifests/{target}"), media_type, &bytes);
        assert_eq!((answer.status, code(&answer).as_str()), (status, wanted), "{target} {media_type}");
    }
    assert_eq!(raw.get("/v2/a/manifests/v1").status, 404);
}

#[test]
fn sparse_indexes_are_taken_when_allowed() {
    let registry = TestRegistry::start_with(|options| options.policy.sparse = true);
    let raw = Raw(&registry);
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{}","digest":"{}","size":1}}]}}"#,
        media_type::OCI_MANIFEST,
        Digest::sha256(b"absent")
    );
    assert_eq!(raw.manifest("/v2/a/manifests/v1", media_type::OCI_INDEX, index.as_bytes()).status, 201);
}

#[test]
fn tags_come_along_with_a_digest() {
    let registry = TestRegistry::start();
    let raw = Raw(&registry);
    let bytes = raw.image("a", "");
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let digest = Digest::of(algorithm, &bytes);
        let tags: Vec<_> = (0..10).map(|number| format!("{}-{number}", algorithm.name())).collect();
        let parameters: Vec<_> = tags.iter().map(|tag| format!("tag={tag}")).collect();
        let target = format!("/v2/a/manifests/{digest}?{}", parameters.join("&"));
        let answer = raw.manifest(&target, media_type::OCI_MANIFEST, &bytes);
        assert_eq!((answer.status, answer.header("oci-tag")), (201, Some(tags.join(", ").as_str())));
        for tag in &tags {
            let served = raw.get(&format!("/v2/a/manifests/{tag}"));
            assert_eq!(served.header("docker-content-digest"), Some(digest.as_str()));
        }
    }
    assert_eq!(raw.manifest("/v2/a/manifests/x?tag=.bad", media_type::OCI_MANIFEST, &bytes).status, 400);
    let many: Vec<_> = (0..65).map(|number| format!("tag=t{number}")).collect();
    let target = format!("/v2/a/manifests/{}?{}", Digest::sha256(&bytes), many.join("&"));
    assert_eq!(raw.manifest(&target, media_type::OCI_MANIFEST, &bytes).status, 414);
}

#[test]
fn tags_are_listed_in_order_and_in_pages() {
    let registry = TestRegistry::start();
    let raw = Raw(&registry);
    let bytes = raw.image("a", "");
    for tag in ["b", "A", "c", "1", "a"] {
        assert_eq!(raw.manifest(&format!("/v2/a/manifests/{tag}"), media_type::OCI_MANIFEST, &bytes).status, 201);
    }
    let list = |target: &str| {
        let answer = raw.get(target);
        assert_eq!(answer.status, 200, "{target}");
        let body: serde_json::Value = serde_json::from_slice(&answer.body).expect("json");
        let tags = body["tags"].as_array().expect("tags").iter().map(|tag| tag.as_str().expect("tag").to_owned());
        let link = answer.header("link").and_then(onetag_registry::wire::link::next).map(str::to_owned);
        (tags.collect::<Vec<_>>().join(" "), link)
    };
    assert_eq!(list("/v2/a/tags/list"), ("1 A a b c".to_owned(), None));
    assert_eq!(list("/v2/a/tags/list?n=0"), (String::new(), None));
    assert_eq!(list("/v2/a/tags/list?last=a"), ("b c".to_owned(), None));
    assert_eq!(list("/v2/a/tags/list?n=9"), ("1 A a b c".to_owned(), None));
    let (first, next) = list("/v2/a/tags/list?n=2");
    assert_eq!(first, "1 A");
    let (second, next) = list(&next.expect("next"));
    assert_eq!(second, "a b");
    assert_eq!(list(&next.expect("next")), ("c".to_owned(), None));
    assert_eq!(raw.get("/v2/a/tags/list?n=x").status, 400);
    assert_eq!(raw.get("/v2/a/tags/list?n=-1").status, 400);
}

#[test]
fn referrers_are_listed_and_filtered() {
    let registry = TestRegistry::start();
    let raw = Raw(&registry);
    let subject = raw.image("a", "");
    let subject_digest = Digest::sha256(&subject);
    let about = format!(
        r#","subject":{{"mediaType":"{}","digest":"{subject_digest}","size":{}}}"#,
        media_type::OCI_MANIFEST,
        subject.len()
    );
    // Referrers may come before their subject.
    for kind in ["sbom", "signature"] {
        let referrer =
            raw.image("a", &format!(r#","artifactType":"application/{kind}","annotations":{{"k":"{kind}"}}{about}"#));
        let target = format!("/v2/a/manifests/{}", Digest::sha256(&referrer));
        let pushed = raw.manifest(&target, media_type::OCI_MANIFEST, &referrer);
        assert_eq!((pushed.status, pushed.header("oci-subject")), (201, Some(subject_digest.as_str())));
    }
    let plain = raw.image("a", &about);
    assert_eq!(raw.manifest("/v2/a/manifests/plain", media_type::OCI_MANIFEST, &plain).status, 201);
    let index = format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]{about}}}"#, media_type::OCI_INDEX);
    assert_eq!(raw.manifest("/v2/a/manifests/index", media_type::OCI_INDEX, index.as_bytes()).status, 201);
    let list = |target: &str| {
        let answer = raw.get(target);
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(media_type::OCI_INDEX)), "{target}");
        let body: serde_json::Value = serde_json::from_slice(&answer.body).expect("json");
        assert_eq!((&body["schemaVersion"], &body["mediaType"]), (&2.into(), &media_type::OCI_INDEX.into()));
        (body["manifests"].as_array().expect("manifests").clone(), answer)
    };
    let target = format!("/v2/a/referrers/{subject_digest}");
    let (all, answer) = list(&target);
    assert_eq!((all.len(), answer.header("oci-filters-applied")), (4, None));
    let mut types: Vec<_> = all.iter().map(|entry| entry["artifactType"].as_str()).collect();
    types.sort_unstable();
    assert_eq!(types, [None, Some("application/sbom"), Some("application/signature"), Some(media_type::EMPTY)]);
    let (sboms, answer) = list(&format!("{target}?artifactType=application%2Fsbom"));
    assert_eq!((sboms.len(), answer.header("oci-filters-applied")), (1, Some("artifactType")));
    assert_eq!(sboms[0]["annotations"]["k"], "sbom");
    let (page, answer) = list(&format!("{target}?n=3"));
    let next = answer.header("link").and_then(onetag_registry::wire::link::next).expect("next").to_owned();
    assert_eq!((page.len(), list(&next).0.len()), (3, 1));
    let nobody = Digest::sha256(b"nobody");
    assert_eq!(list(&format!("/v2/never-seen/referrers/{nobody}")).0.len(), 0);
    assert_eq!(raw.get("/v2/a/referrers/x").status, 400);
    let digest = Digest::sha256(&plain);
    assert_eq!(raw.delete(&format!("/v2/a/manifests/{digest}")).status, 202);
    assert_eq!(list(&target).0.len(), 3);
}

#[test]
fn deletion_is_immediate() {
    let registry = TestRegistry::start();
    let raw = Raw(&registry);
    let bytes = raw.image("a", "");
    let digest = Digest::sha256(&bytes);
    for tag in ["one", "two"] {
        raw.manifest(&format!("/v2/a/manifests/{tag}"), media_type::OCI_MANIFEST, &bytes);
    }
    assert_eq!(raw.get("/v2/a/manifests/one").status, 200);
    assert_eq!(raw.delete("/v2/a/manifests/one").status, 202);
    assert_eq!(raw.get("/v2/a/manifests/one").status, 404);
    assert_eq!(raw.get("/v2/a/manifests/two").status, 200);
    assert_eq!(raw.delete(&format!("/v2/a/manifests/{digest}")).status, 202);
    assert_eq!(raw.get("/v2/a/manifests/two").status, 404);
    assert_eq!(raw.get(&format!("/v2/a/manifests/{digest}")).status, 404);
    assert_eq!(raw.get("/v2/a/tags/list").body, br#"{"name":"a","tags":[]}"#);
    let blob = raw.blob("a", b"blob");
    assert_eq!(raw.delete(&format!("/v2/a/blobs/{blob}")).status, 202);
    assert_eq!(raw.get(&format!("/v2/a/blobs/{blob}")).status, 404);
}

#[test]
fn a_tag_moves_at_once() {
    let registry = TestRegistry::start();
    let raw = Raw(&registry);
    for number in 0..20 {
        let bytes = raw.image("a", &format!(r#","annotations":{{"n":"{number}"}}"#));
        assert_eq!(raw.manifest("/v2/a/manifests/moving", media_type::OCI_MANIFEST, &bytes).status, 201);
        assert_eq!(raw.get("/v2/a/manifests/moving").body, bytes);
    }
}

#[test]
fn read_only_registries_take_nothing() {
    let registry = TestRegistry::start_with(|options| options.policy.read_only = true);
    let raw = Raw(&registry);
    assert_eq!(raw.get("/v2/").status, 200);
    let digest = Digest::sha256(b"x");
    let (manifest, blob) = (format!("/v2/a/manifests/{digest}"), format!("/v2/a/blobs/{digest}"));
    for (method, target) in [
        ("POST", "/v2/a/blobs/uploads/"),
        ("PUT", "/v2/a/manifests/x"),
        ("DELETE", "/v2/a/manifests/x"),
        ("DELETE", &manifest),
        ("DELETE", &blob),
    ] {
        let answer = raw.ask(method, target, &[], b"");
        assert_eq!((answer.status, code(&answer).as_str()), (405, "UNSUPPORTED"));
    }
}

#[test]
fn blobs_larger_than_allowed_are_refused() {
    let registry = TestRegistry::start_with(|options| options.limits.blob_bytes = 1000);
    let raw = Raw(&registry);
    let blob = noise(1001, 1);
    let digest = Digest::sha256(&blob);
    let put = raw.ask("PUT", &format!("{}?digest={digest}", raw.begin("a")), &[], &blob);
    assert_eq!((put.status, code(&put).as_str()), (413, "SIZE_INVALID"));
    assert_eq!(raw.ask("POST", &format!("/v2/a/blobs/uploads/?digest={digest}"), &[], &blob).status, 413);
    raw.blob("a", &blob[..1000]);
}
