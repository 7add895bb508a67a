//! The client's side of the distribution specification: registries without lists of referrers, and what headers it sends and heeds.

use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use onetag_oci::{Descriptor, Digest, Index, Reference, media_type};
use onetag_registry::client::HostOptions;
use onetag_registry::credential::{Credential, CredentialError, CredentialProvider};
use onetag_registry::{Client, ClientOptions, Error, GrowingSource, Pushed};
use serde_json::{Value, json};

use crate::scripted::{Answer, Asked, Reaction, Scripted, forward};
use crate::specification::Raw;
use crate::support::{TestRegistry, client, describe, noise, quick};

/// A registry behind a server that changes its answers.
struct Behind {
    registry: TestRegistry,
    front: Scripted,
}

impl Behind {
    fn start(change: impl Fn(&Asked, Answer) -> Reaction + Send + Sync + 'static) -> Self {
        let registry = TestRegistry::start();
        let upstream = registry.address();
        let front = Scripted::start(move |asked| change(asked, forward(upstream, asked)));
        Behind { registry, front }
    }

    /// A registry from before there were lists of referrers.
    fn without_referrers() -> Self {
        Behind::start(|asked, mut answer| {
            if asked.target.contains("/referrers/") {
                return Answer::new(404).react();
            }
            answer.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("oci-subject"));
            answer.react()
        })
    }

    fn reference(&self, rest: &str) -> Reference {
        Reference::parse(&format!("{}/{rest}", self.front.host())).expect("reference")
    }

    fn raw(&self) -> Raw<'_> {
        Raw(&self.registry)
    }

    fn stored(&self, tag: &str) -> Option<Index> {
        let answer = self.raw().get(&format!("/v2/a/manifests/{tag}"));
        (answer.status == 200).then(|| serde_json::from_slice(&answer.body).expect("an index"))
    }

    fn requests(&self, method: &str) -> Vec<Asked> {
        self.front.asked().into_iter().filter(|asked| asked.method == method).collect()
    }
}

fn about(subject: &Digest) -> String {
    format!(r#","subject":{{"mediaType":"{}","digest":"{subject}","size":29}}"#, media_type::OCI_MANIFEST)
}

fn tag_of(subject: &Digest) -> String {
    format!("sha256-{}", subject.encoded())
}

/// Pushes bytes by their digest; gives the digest.
fn push(behind: &Behind, bytes: &[u8], media_type: &str) -> Result<Digest, Error> {
    let reference = behind.reference("a").with_digest(Digest::sha256(bytes));
    client().push_manifest(&reference, bytes, media_type)
}

#[test]
fn referrers_are_listed_under_a_tag_where_the_registry_keeps_no_list() {
    let behind = Behind::without_referrers();
    let subject = Digest::sha256(b"a subject that may come later");
    let tag = tag_of(&subject);
    let typed = r#","artifactType":"application/sbom","annotations":{"k":"v","l":"w"}"#;
    let typed = behind.raw().image("a", &format!("{typed}{}", about(&subject)));
    let plain = behind.raw().image("a", &about(&subject));
    let empty = behind.raw().image("a", &format!(r#","artifactType":"","annotations":{{"n":"3"}}{}"#, about(&subject)));
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","artifactType":"","manifests":[],"annotations":{{"i":"j"}}{}}}"#,
        media_type::OCI_INDEX,
        about(&subject)
    );
    for bytes in [&typed, &plain, &empty] {
        push(&behind, bytes, media_type::OCI_MANIFEST).expect("pushed");
    }
    push(&behind, index.as_bytes(), media_type::OCI_INDEX).expect("pushed");
    // A second push adds no second entry.
    push(&behind, &typed, media_type::OCI_MANIFEST).expect("pushed");

    let list = behind.raw().get(&format!("/v2/a/manifests/{tag}"));
    assert_eq!(list.header("content-type"), Some(media_type::OCI_INDEX));
    let body: Value = serde_json::from_slice(&list.body).expect("json");
    let entry = |bytes: &[u8], media_type: &str, members: Value| {
        let mut entry =
            json!({ "mediaType": media_type, "digest": Digest::sha256(bytes).as_str(), "size": bytes.len() });
        entry.as_object_mut().expect("members").extend(members.as_object().expect("members").clone());
        entry
    };
    let wanted = json!([
        entry(
            &typed,
            media_type::OCI_MANIFEST,
            json!({ "artifactType": "application/sbom", "annotations": { "k": "v", "l": "w" } })
        ),
        entry(&plain, media_type::OCI_MANIFEST, json!({ "artifactType": media_type::EMPTY })),
        entry(
            &empty,
            media_type::OCI_MANIFEST,
            json!({ "artifactType": media_type::EMPTY, "annotations": { "n": "3" } })
        ),
        entry(index.as_bytes(), media_type::OCI_INDEX, json!({ "annotations": { "i": "j" } })),
    ]);
    assert_eq!(body["manifests"], wanted);

    // Of a longer digest the tag has only the front.
    let long = Digest::of(onetag_oci::Algorithm::Sha512, b"a subject");
    push(&behind, &behind.raw().image("a", &about(&long)), media_type::OCI_MANIFEST).expect("pushed");
    assert_eq!(behind.stored(&format!("sha512-{}", &long.encoded()[..64])).expect("a list").manifests.len(), 1);

    let found = client().referrers(&behind.reference("a"), &subject, None).expect("found");
    assert_eq!(found.len(), 4);
    let found = client().referrers(&behind.reference("a"), &subject, Some("application/sbom")).expect("found");
    assert_eq!(found.iter().map(|found| &found.digest).collect::<Vec<_>>(), [&Digest::sha256(&typed)]);
}

#[test]
fn what_is_no_list_under_the_tag_is_left_alone() {
    let behind = Behind::without_referrers();
    let subject = Digest::sha256(b"a subject");
    let tag = tag_of(&subject);
    let other = behind.raw().image("a", "");
    behind.raw().manifest(&format!("/v2/a/manifests/{tag}"), media_type::OCI_MANIFEST, &other);
    let referrer = behind.raw().image("a", &about(&subject));
    let error = push(&behind, &referrer, media_type::OCI_MANIFEST).expect_err("no list");
    assert!(error.to_string().contains(&tag), "{error}");
    assert_eq!(behind.raw().get(&format!("/v2/a/manifests/{tag}")).body, other, "nothing is overwritten");
    let digest = Digest::sha256(&referrer);
    assert_eq!(behind.raw().get(&format!("/v2/a/manifests/{digest}")).status, 200, "the manifest itself was pushed");
    assert_eq!(client().referrers(&behind.reference("a"), &subject, None).expect("asked"), Vec::<Descriptor>::new());
    let nobody = Digest::sha256(b"nobody");
    assert_eq!(client().referrers(&behind.reference("a"), &nobody, None).expect("asked"), Vec::<Descriptor>::new());
}

#[test]
fn a_deleted_manifest_leaves_the_list_under_the_tag() {
    let behind = Behind::without_referrers();
    let subject = Digest::sha256(b"a subject");
    let tag = tag_of(&subject);
    let (one, two) = (behind.raw().image("a", &about(&subject)), {
        let members = format!(r#","annotations":{{"n":"2"}}{}"#, about(&subject));
        behind.raw().image("a", &members)
    });
    for bytes in [&one, &two] {
        push(&behind, bytes, media_type::OCI_MANIFEST).expect("pushed");
    }
    let digest = Digest::sha256(&one);
    client().delete_manifest(&behind.reference("a").with_digest(digest.clone())).expect("deleted");
    assert_eq!(behind.raw().get(&format!("/v2/a/manifests/{digest}")).status, 404);
    let left = behind.stored(&tag).expect("the list").manifests;
    assert_eq!(left.iter().map(|entry| &entry.digest).collect::<Vec<_>>(), [&Digest::sha256(&two)]);
}

#[test]
fn registries_that_list_referrers_are_left_to_it() {
    let behind = Behind::start(|_, answer| answer.react());
    let subject = Digest::sha256(b"a subject");
    let referrer = behind.raw().image("a", &about(&subject));
    let digest = push(&behind, &referrer, media_type::OCI_MANIFEST).expect("pushed");
    assert_eq!(client().referrers(&behind.reference("a"), &subject, None).expect("found").len(), 1);
    client().delete_manifest(&behind.reference("a").with_digest(digest)).expect("deleted");
    assert_eq!(behind.requests("PUT").len(), 1, "the manifest and no list");
    assert_eq!(client().referrers(&behind.reference("a"), &subject, None).expect("asked").len(), 0);
}

#[test]
fn manifests_are_sent_as_what_they_say_they_are() {
    let behind = Behind::start(|_, answer| answer.react());
    let image = behind.raw().image("a", "");
    for said in
        [media_type::OCI_MANIFEST, "application/json", "application/vnd.oci.image.manifest.v1+json; charset=utf-8"]
    {
        push(&behind, &image, said).expect("pushed");
    }
    let sent: Vec<_> =
        behind.requests("PUT").iter().map(|asked| asked.header("content-type").map(str::to_owned)).collect();
    assert_eq!(sent, vec![Some(media_type::OCI_MANIFEST.to_owned()); 3]);
}

#[test]
fn types_of_pulled_manifests_are_asked_for_and_compared() {
    for (sent, good) in [
        ("application/vnd.oci.image.manifest.v1+json; charset=utf-8", true),
        ("application/vnd.oci.image.manifest.v1+json", true),
        ("application/vnd.oci.image.index.v1+json", false),
    ] {
        let behind = Behind::start(move |_, mut answer| {
            answer.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("content-type"));
            answer.with("content-type", sent).react()
        });
        let image = behind.raw().image("a", "");
        behind.raw().manifest("/v2/a/manifests/v1", media_type::OCI_MANIFEST, &image);
        let pulled = client().manifest(&behind.reference("a:v1"));
        assert_eq!(pulled.is_ok(), good, "{sent}");
        let asked = behind.requests("GET");
        let accept = asked[0].header("accept").expect("an accept header");
        assert!(accept.contains(media_type::OCI_MANIFEST) && accept.contains(media_type::OCI_INDEX), "{accept}");
    }
}

#[test]
fn uploads_go_where_the_registry_says_in_chunks_as_large_as_it_wants() {
    // The address has parameters of its own, and the least length of a chunk is more than the blob has.
    let behind = Behind::start(|asked, mut answer| {
        for (name, value) in &mut answer.headers {
            if name.eq_ignore_ascii_case("location") && asked.target.contains("/uploads/") && answer.status == 202 {
                value.push_str("?state=a%2Bb%3D&x=1");
            }
        }
        answer.with("oci-chunk-min-length", "1000000").react()
    });
    let blob = noise(300_000, 8);
    let descriptor = describe(&blob, media_type::OCI_LAYER);
    let pushed = client().push_blob(&behind.reference("a"), &descriptor, &blob, &[]).expect("pushed");
    assert_eq!(pushed, Pushed::Uploaded);
    let begun = &behind.requests("POST")[0];
    assert_eq!(begun.header("content-length"), Some("0"));
    let put = &behind.requests("PUT")[0];
    assert!(put.target.contains("?state=a%2Bb%3D&x=1&digest="), "{}", put.target);
    assert_eq!(put.header("content-type"), Some("application/octet-stream"));
    assert_eq!((behind.requests("PATCH").len(), put.body.len()), (0, blob.len()), "the last chunk may have any length");

    let sha512 = Digest::of(onetag_oci::Algorithm::Sha512, &blob);
    let descriptor = Descriptor::new(media_type::OCI_LAYER, sha512, blob.len() as u64);
    client().push_blob(&behind.reference("b"), &descriptor, &blob, &[]).expect("pushed");
    let begun = behind.requests("POST").pop().expect("a request");
    assert!(begun.target.ends_with("?digest-algorithm=sha512"), "{}", begun.target);
}

/// A blob that is said to be growing.
struct Grown(Vec<u8>);

impl GrowingSource for Grown {
    fn open(&self, offset_bytes: u64) -> std::io::Result<Box<dyn Read + Send>> {
        let offset = usize::try_from(offset_bytes).expect("offset");
        Ok(Box::new(std::io::Cursor::new(self.0[offset..].to_vec())))
    }

    fn finish(&self) -> std::io::Result<(Digest, u64)> {
        Ok((Digest::sha256(&self.0), self.0.len() as u64))
    }
}

#[test]
fn each_request_of_an_upload_goes_where_the_one_before_it_said() {
    let count = AtomicUsize::new(0);
    let behind = Behind::start(move |asked, mut answer| {
        for (name, value) in &mut answer.headers {
            if name.eq_ignore_ascii_case("location") && asked.target.contains("/uploads/") && answer.status == 202 {
                value.push_str(&format!("?state={}", count.fetch_add(1, Ordering::SeqCst)));
            }
        }
        answer.react()
    });
    let blob = noise(600_000, 9);
    let (digest, _) = client().push_growing(&behind.reference("a"), &Grown(blob.clone())).expect("pushed");
    assert_eq!(digest, Digest::sha256(&blob));
    let asked: Vec<_> = behind.front.asked().into_iter().filter(|asked| asked.target.contains("state=")).collect();
    let sent: Vec<_> = asked.iter().map(|asked| asked.method.as_str()).collect();
    assert_eq!(sent, ["PATCH", "PUT"]);
    assert!(asked[0].target.ends_with("?state=0"), "{}", asked[0].target);
    assert!(asked[1].target.contains("?state=1&digest=sha256"), "{}", asked[1].target);
}

#[test]
fn a_registry_that_stored_another_manifest_is_noticed() {
    let behind = Behind::start(|asked, mut answer| {
        if asked.method == "PUT" {
            answer.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("docker-content-digest"));
            return answer.with("docker-content-digest", Digest::sha256(b"another").as_str()).react();
        }
        answer.react()
    });
    let image = behind.raw().image("a", "");
    let error = push(&behind, &image, media_type::OCI_MANIFEST).expect_err("another digest");
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error:?}");
}

/// Knows the credentials of one registry.
struct Of(String);

impl CredentialProvider for Of {
    fn credential(&self, registry: &str) -> Result<Option<Credential>, CredentialError> {
        let basic = || Credential::Basic { username: "ann".into(), password: "secret".into() };
        Ok((registry == self.0).then(basic))
    }
}

#[test]
fn a_proxy_gets_no_credentials_of_the_registry_behind_it() {
    let demanding = |asked: &Asked, answer: Answer| match asked.header("authorization") {
        None => Answer::new(401).with("www-authenticate", "Basic realm=\"x\"").react(),
        Some(_) => answer.react(),
    };
    let behind = Behind::start(demanding);
    let mirror = Scripted::start(move |asked| demanding(asked, Answer::new(404)));
    let image = behind.raw().image("a", "");
    behind.raw().manifest("/v2/a/manifests/v1", media_type::OCI_MANIFEST, &image);
    let mut options = ClientOptions { credentials: Arc::new(Of(behind.front.host())), ..quick() };
    options.hosts.insert(behind.front.host(), HostOptions { mirrors: vec![mirror.host()], ..HostOptions::default() });
    assert_eq!(Client::new(options).manifest(&behind.reference("a:v1")).expect("pulled").bytes(), image);
    assert!(!mirror.asked().is_empty());
    assert!(mirror.asked().iter().all(|asked| asked.header("authorization").is_none()));
    assert!(behind.front.asked().iter().all(|asked| !asked.target.contains("ns=")), "the registry itself is no proxy");
}

#[test]
fn an_upload_that_is_given_up_is_cancelled() {
    let behind = Behind::start(|asked, answer| match asked.method.as_str() {
        "PUT" => Answer::new(400).body(r#"{"errors":[{"code":"BLOB_UPLOAD_INVALID","message":"no"}]}"#).react(),
        // That cancelling fails is nobody's concern.
        "DELETE" => Answer::new(500).react(),
        _ => answer.react(),
    });
    let blob = noise(1000, 8);
    let descriptor = describe(&blob, media_type::OCI_LAYER);
    let error = client().push_blob(&behind.reference("a"), &descriptor, &blob, &[]).expect_err("refused");
    assert!(matches!(&error, Error::Status { status, .. } if status.as_u16() == 400), "{error:?}");
    assert_eq!(behind.requests("DELETE").len(), 1);
}

#[test]
fn warnings_are_told_once_and_change_nothing() {
    let behind = Behind::start(|_, answer| {
        let answer = answer.with("warning", r#"299 - "one""#).with("warning", r#"299 - "two", 299 - "three""#);
        answer.with("warning", r#"110 proxy "stale" "Sat, 01 Jan 2022 00:00:00 GMT""#).react()
    });
    let image = behind.raw().image("a", "");
    behind.raw().manifest("/v2/a/manifests/v1", media_type::OCI_MANIFEST, &image);
    let told = Arc::new(Mutex::new(Vec::new()));
    let log = told.clone();
    let hook = move |_: &str, text: &str| log.lock().expect("log").push(text.to_owned());
    let client = Client::new(ClientOptions { warnings: Some(Arc::new(hook)), ..quick() });
    for _ in 0..2 {
        assert_eq!(client.manifest(&behind.reference("a:v1")).expect("pulled").bytes(), image);
    }
    assert_eq!(*told.lock().expect("log"), ["one", "two", "three"]);
    assert_eq!(behind.front.asked().len(), 2, "no request more than without warnings");
}
