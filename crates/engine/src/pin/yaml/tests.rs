use super::super::occurrence::Occurrence;
use super::*;

const DIGEST: &str = "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn pinned(text: &str) -> String {
    let mut sites: Vec<Range<usize>> =
        occurrences(text.as_bytes()).unwrap().into_iter().filter_map(|found| found.site.ok()).collect();
    sites.sort_by_key(|site| std::cmp::Reverse(site.start));
    sites.dedup();
    let mut result = text.as_bytes().to_vec();
    for site in sites {
        result.splice(site, DIGEST.bytes());
    }
    String::from_utf8(result).unwrap()
}

#[track_caller]
fn check(text: &str) {
    let expected = text.replace('|', DIGEST);
    assert_eq!(pinned(&text.replace('|', "")), expected);
    assert_eq!(pinned(&expected), expected);
}

#[test]
fn compose_services_are_found_by_their_image() {
    check(
        "services:\n  a:\n    image: redis:7|   # why\n  b: {image: 'redis:7|', x: y}\n  c:\n    image: \"redis:7|\"\n",
    );
    check(
        "\u{feff}services:\r\n  é:\r\n    # ünter\r\n    image: localhost:5000/é/x\r\n  a:\r\n    image: redis:7|\r\n",
    );
    check("x-image: &i redis:7|\nservices:\n  a:\n    image: *i\n  b:\n    image: *i\n");
    check("x-base: &b\n  image: redis:7|\nservices:\n  a:\n    <<: *b\n  b:\n    <<: [*b]\n    image: own:1|\n");
    check("services:\n  built:\n    build: .\n    image: mine:1\n  a:\n    image: !!str redis:7|\n");
    check("services:\n  a:\n    image: ${REG:-docker.io/library}/redis:7|\n  b:\n    image: \"redis:${TAG:-7|}\"\n");
    check("services:\n  a:\n    image: ${IMAGE:-redis:7|}\n  b:\n    image:\n      redis:7|\n");
    check("services:\n  a:\n    ? image\n    : redis:7|\n");
}

#[test]
fn kubernetes_containers_are_found_however_deep() {
    check(
        "apiVersion: batch/v1\nkind: CronJob\nspec:\n  jobTemplate:\n    spec:\n      template:\n        spec:\n          \
         initContainers: [{name: i, image: init:1|}]\n          containers:\n          - name: a\n            \
         image: app:1|\n            env: [{name: image, value: other:1}]\n          - image: \"b:1|\"\n          \
         ephemeralContainers:\n          - {image: e:1|}\n---\n# second\napiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  \
         kind: Pod\n  spec:\n    containers:\n    - image: c:1|\n    volumes:\n    - image: {reference: d:1|}\n...\n---\nimage: no:1\n",
    );
    let text = "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - image: a:1\n  - image: b:$TAG\n";
    let found = occurrences(text.as_bytes()).unwrap();
    assert_eq!(
        (found[0].place.as_str(), found[0].position.to_string()),
        ("spec.containers[0].image", "5:12".to_owned())
    );
    assert!(found[1].reference.is_err(), "a dollar means nothing to Kubernetes: {found:?}");
}

fn reason(image: &str) -> String {
    let found: Vec<Occurrence> = occurrences(format!("services:\n  a:\n    image: {image}\n").as_bytes()).unwrap();
    found[0].site.as_ref().unwrap_err().to_string()
}

#[test]
fn what_cannot_be_written_says_why() {
    assert!(reason("redis:${TAG}").contains("TAG has no value"));
    assert!(reason("${IMAGE:?needed}").contains("IMAGE has no value"));
    assert!(reason("redis:${A:-7}-alpine").contains("A is a part"));
    assert!(reason("\"red\\u0069s:7\"").contains("one piece"));
    assert!(reason("redis:${TAG:+7}").contains("hides"));
    assert!(reason("'{{ .Values.image }}'").contains("template"));
    assert!(reason(">\n      redis:7").contains("one piece") || reason(">\n      redis:7").contains("not an image"));
}

#[test]
fn hostile_files_end_in_errors() {
    assert_eq!(occurrences(b"\xff").unwrap_err(), YamlError::Encoding);
    assert!(matches!(occurrences(b"a: [").unwrap_err(), YamlError::Syntax { line: 1.., .. }));
    let deep = "[".repeat(100_000);
    assert!(occurrences(deep.as_bytes()).is_err());
    // Anchors within themselves, and merges of merges.
    let text = "services: &s\n  a: &a\n    <<: [*a, *a, *s]\n";
    assert_eq!(occurrences(text.as_bytes()).unwrap(), []);
}
