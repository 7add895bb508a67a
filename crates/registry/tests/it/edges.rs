//! More sentences of the distribution specification: limits, forms of headers and of failures.

use std::io::{Read, Write};
use std::time::Duration;

use onetag_oci::{Digest, media_type};

use crate::specification::{Raw, code};
use crate::support::TestRegistry;

#[test]
fn names_and_tags_have_the_grammar_of_the_specification() {
    let registry = TestRegistry::start();
    let raw = Raw(&registry);
    let bytes = raw.image("a", "");
    for (tag, status) in [
        ("a".repeat(128), 201),
        ("a".repeat(129), 400),
        ("_.-A9".to_owned(), 201),
        ("-a".to_owned(), 400),
        ("a+b".to_owned(), 400),
    ] {
        let answer = raw.manifest(&format!("/v2/a/manifests/{tag}"), media_type::OCI_MANIFEST, &bytes);
        assert_eq!(answer.status, status, "{tag}");
    }
    for (name, status) in [
        ("a/b/c", 202),
        ("a__b", 202),
        ("a.b-c", 202),
        ("a--b", 202),
        ("a_/b", 400),
        ("a..b", 400),
        ("A", 400),
        ("a_b-", 400),
    ] {
        let answer = raw.ask("POST", &format!("/v2/{name}/blobs/uploads/"), &[], b"");
        assert_eq!(answer.status, status, "{name}");
        if status == 400 {
            assert_eq!(code(&answer), "NAME_INVALID", "{name}");
        }
    }
}

#[test]
fn uploads_are_named_by_a_uuid_and_tell_where_they_are() {
    let registry = TestRegistry::start();
    let raw = Raw(&registry);
    let location = raw.begin("a");
    let identity = location.rsplit('/').next().expect("an identity");
    let parts: Vec<usize> = identity.split('-').map(str::len).collect();
    assert_eq!(parts, [8, 4, 4, 4, 12], "{location}");
    assert!(identity.chars().all(|character| character.is_ascii_hexdigit() || character == '-'));
    assert_ne!(raw.begin("a"), location, "each upload has its own");
    for (chunk, range) in [("0-4", "0-4"), ("5-9", "0-9")] {
        let answer = raw.ask("PATCH", &location, &[("content-range", chunk)], b"12345");
        assert_eq!((answer.status, answer.header("location")), (202, Some(location.as_str())));
        assert_eq!(answer.header("range"), Some(range));
        let status = raw.get(&location);
        assert_eq!((status.status, status.header("location")), (204, Some(location.as_str())));
        assert_eq!(status.header("range"), Some(range));
    }
    let late = raw.ask("PATCH", &location, &[("content-range", "11-12")], b"12");
    assert_eq!(
        (late.status, late.header("range"), late.header("location")),
        (416, Some("0-9"), Some(location.as_str()))
    );
    for malformed in ["10", "11-10", "a-b"] {
        assert_eq!(raw.ask("PATCH", &location, &[("content-range", malformed)], b"12").status, 400, "{malformed}");
    }
    assert_eq!(raw.get(&location).header("range"), Some("0-9"), "what is refused changes nothing");
    let other = location.replace("/v2/a/", "/v2/b/");
    assert_eq!(raw.get(&other).status, 404, "an upload belongs to its repository");
}

#[test]
fn manifests_of_four_megabytes_are_taken() {
    let registry = TestRegistry::start();
    let raw = Raw(&registry);
    let small = raw.image("a", "");
    let filler = 4 * 1024 * 1024 - small.len() - r#","annotations":{"k":""}"#.len();
    let bytes = raw.image("a", &format!(r#","annotations":{{"k":"{}"}}"#, "x".repeat(filler)));
    assert_eq!(bytes.len(), 4 * 1024 * 1024);
    assert_eq!(raw.manifest("/v2/a/manifests/large", media_type::OCI_MANIFEST, &bytes).status, 201);
    assert_eq!(raw.get("/v2/a/manifests/large").body, bytes);
}

#[test]
fn lists_begin_behind_names_that_need_not_exist() {
    let registry = TestRegistry::start();
    let raw = Raw(&registry);
    let bytes = raw.image("a", "");
    for tag in ["v1", "v2", "v3"] {
        raw.manifest(&format!("/v2/a/manifests/{tag}"), media_type::OCI_MANIFEST, &bytes);
    }
    for (query, tags) in
        [("last=v1a", r#"["v2","v3"]"#), ("n=1&last=v1a", r#"["v2"]"#), ("last=zzz", "[]"), ("n=0&last=v1", "[]")]
    {
        let answer = raw.get(&format!("/v2/a/tags/list?{query}"));
        let wanted = format!(r#"{{"name":"a","tags":{tags}}}"#);
        assert_eq!(String::from_utf8(answer.body.clone()).expect("text"), wanted, "{query}");
        assert_eq!(answer.header("link").is_some(), query.starts_with("n=1"), "{query}");
    }
    let link = raw.get("/v2/a/tags/list?n=2").header("link").expect("a link").to_owned();
    assert_eq!(link, r#"</v2/a/tags/list?last=v2&n=2>; rel="next""#);
}

#[test]
fn failures_are_json_with_known_codes() {
    let registry = TestRegistry::start_with(|options| options.limits.uploads = 0);
    let raw = Raw(&registry);
    let absent = Digest::sha256(b"absent");
    for (method, target) in [
        ("GET", "/v2/a/manifests/x".to_owned()),
        ("GET", format!("/v2/a/blobs/{absent}")),
        ("PUT", "/v2/a/manifests/x".to_owned()),
        ("GET", "/v2/A/tags/list".to_owned()),
        ("GET", "/v2/a/referrers/none".to_owned()),
        ("DELETE", "/v2/a/manifests/x".to_owned()),
        ("POST", "/v2/a/blobs/uploads/".to_owned()),
        ("PATCH", "/v2/a/tags/list".to_owned()),
    ] {
        let answer = raw.ask(method, &target, &[], b"");
        assert!((400..500).contains(&answer.status), "{method} {target}: {}", answer.status);
        assert_eq!(answer.header("content-type"), Some("application/json"), "{method} {target}");
        let body: serde_json::Value = serde_json::from_slice(&answer.body).expect("json");
        for error in body["errors"].as_array().expect("errors") {
            let code = error["code"].as_str().expect("a code");
            assert!(code.chars().all(|character| character.is_ascii_uppercase() || character == '_'), "{code}");
            assert!(error["message"].is_string(), "{method} {target}");
        }
    }
    let busy = raw.ask("POST", "/v2/a/blobs/uploads/", &[], b"");
    assert_eq!((busy.status, code(&busy).as_str()), (429, "TOOMANYREQUESTS"));
    assert!(busy.header("retry-after").is_some_and(|seconds| seconds.parse::<u32>().is_ok()));
    let wrong = raw.ask("PUT", "/v2/a/tags/list", &[], b"");
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("GET, HEAD")));
}

#[test]
fn warnings_have_the_one_form_that_clients_take() {
    let registry = TestRegistry::start_with(|options| options.warning = Some("closes on Friday".to_owned()));
    let raw = Raw(&registry);
    for target in ["/v2/", "/v2/a/tags/list"] {
        let answer = raw.get(target);
        let warnings = answer.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("warning"));
        let warnings: Vec<_> = warnings.map(|(_, value)| value.as_str()).collect();
        assert_eq!(warnings, [r#"299 - "closes on Friday""#], "{target}");
    }
    let folder = tempfile::tempdir().expect("folder");
    for text in ["a \"quoted\" one".to_owned(), "two\nlines".to_owned(), "x".repeat(4096), "ümlaut".to_owned()] {
        let mut options = onetag_registry::server::Options::new(folder.path());
        options.address.set_port(0);
        options.warning = Some(text.clone());
        assert!(onetag_registry::server::Server::bind(&options).is_err(), "{text}");
    }
}

#[test]
fn referrers_that_clients_kept_under_a_tag_are_listed_too() {
    let registry = TestRegistry::start();
    let raw = Raw(&registry);
    let subject = Digest::sha256(b"a subject that may come later");
    let about = format!(
        r#","artifactType":"application/x","subject":{{"mediaType":"{}","digest":"{subject}","size":29}}"#,
        media_type::OCI_MANIFEST
    );
    let referrer = raw.image("a", &about);
    let digest = Digest::sha256(&referrer);
    raw.manifest(&format!("/v2/a/manifests/{digest}"), media_type::OCI_MANIFEST, &referrer);
    // A client of older registries lists it itself.
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{{"mediaType":"{}","digest":"{digest}","size":{}}}]}}"#,
        media_type::OCI_INDEX,
        media_type::OCI_MANIFEST,
        referrer.len()
    );
    let tag = subject.to_string().replace(':', "-");
    let pushed = raw.manifest(&format!("/v2/a/manifests/{tag}"), media_type::OCI_INDEX, index.as_bytes());
    assert_eq!((pushed.status, pushed.header("oci-subject")), (201, None));
    let listed = raw.get(&format!("/v2/a/referrers/{subject}"));
    let body: serde_json::Value = serde_json::from_slice(&listed.body).expect("json");
    assert_eq!(body["manifests"].as_array().map(Vec::len), Some(1));
    assert_eq!(body["manifests"][0]["digest"], digest.as_str());
}

#[test]
fn heads_say_what_gets_would() {
    let registry = TestRegistry::start();
    let raw = Raw(&registry);
    let image = raw.image("a", "");
    raw.manifest("/v2/a/manifests/v1", media_type::OCI_MANIFEST, &image);
    let blob = raw.blob("a", b"{}");
    for target in ["/v2/a/manifests/v1".to_owned(), format!("/v2/a/blobs/{blob}"), "/v2/a/tags/list".to_owned()] {
        let (get, head) = (raw.get(&target), raw.head(&target));
        assert_eq!((head.status, head.body.len()), (200, 0));
        for name in ["content-length", "content-type", "docker-content-digest", "etag"] {
            assert_eq!(head.header(name), get.header(name), "{name} of {target}");
        }
    }
}

#[test]
fn who_is_asked_for_by_way_of_a_proxy_makes_no_difference() {
    let registry = TestRegistry::start();
    let raw = Raw(&registry);
    let image = raw.image("a", "");
    raw.manifest("/v2/a/manifests/v1", media_type::OCI_MANIFEST, &image);
    let answer = raw.get("/v2/a/manifests/v1?ns=registry.example");
    assert_eq!((answer.status, &answer.body), (200, &image));
    assert_eq!(answer.header("oci-namespace"), None, "what was not used is not confirmed");
}

/// Sends the head of a request that promises `promised` bytes, then a byte every twenty milliseconds until an answer comes;
/// gives it.
fn trickle(registry: &TestRegistry, target: &str, promised: usize) -> String {
    let mut stream = std::net::TcpStream::connect(registry.address()).expect("connected");
    let head = format!("PATCH {target} HTTP/1.1\r\nhost: a\r\ncontent-length: {promised}\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("sent");
    stream.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
    let mut answer = Vec::new();
    for _ in 0..500 {
        // The server may have closed its side already.
        let _ = stream.write_all(b"x");
        let mut buffer = [0; 512];
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => answer.extend_from_slice(&buffer[..length]),
            Err(_) if answer.is_empty() => {}
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_request_that_trickles_ends_and_what_arrived_can_be_continued() {
    let registry = TestRegistry::start_with(|options| options.limits.body = Duration::from_millis(300));
    let raw = Raw(&registry);
    let location = raw.begin("a");
    let refusal = trickle(&registry, &location, 10_000);
    assert!(refusal.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{refusal}");
    assert!(refusal.contains(r#""code":"SIZE_INVALID""#), "a code of the specification: {refusal}");
    let range = raw.get(&location).header("range").expect("a range").to_owned();
    let last: usize = range.trim_start_matches("0-").parse().expect("a number");
    assert!((1..100).contains(&last), "{range}");
    let rest = format!("{}-{}", last + 1, last + 3);
    let answer = raw.ask("PATCH", &location, &[("content-range", &rest)], b"yyy");
    assert_eq!(answer.status, 202, "the upload goes on");
}
