//! The same input gives the same bytes.

use crate::setup::{Setup, build, small};

const BOTH: [&str; 2] = ["linux/amd64", "linux/arm64"];

#[test]
fn two_stores_make_the_same_index_of_an_epoch() {
    let setup = Setup::new();
    setup.publish(&small(&BOTH), "base:1");
    let dockerfile = "FROM REGISTRY/base:1\nWORKDIR /w\nCOPY a b /b/\nCOPY --chown=1:2 d /d\n";
    let files = [("Dockerfile", dockerfile), ("a", "one"), ("b", "two"), ("d/e/f", "three")];
    let mut digests = Vec::new();
    for name in ["one", "two"] {
        // Another folder: other times and inodes.
        let context = setup.context(name, &files);
        let mut request = setup.pushed(&context, &BOTH, "app:1");
        request.build_args.insert("SOURCE_DATE_EPOCH".to_owned(), "1600000000".to_owned());
        request.outputs[0].rewrite_timestamp = true;
        let (outcome, _) = build(&setup.another(&format!("store {name}")), &request);
        digests.push(outcome.descriptor.unwrap().digest);
        std::thread::sleep(std::time::Duration::from_millis(1100));
    }
    assert_eq!(digests[0], digests[1]);
}
