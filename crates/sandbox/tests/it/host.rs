//! What the examination of a host finds here.

use onetag_sandbox::{Entered, Error, Verdict, examine};
use onetag_testkit::require;

use crate::support::{Room, mode, sandbox, search_path};

#[test]
fn a_host_that_works_is_found_to_work() {
    require!(Room::new().is_ok(), "no room to run in");
    let store = tempfile::tempdir().unwrap();
    let report = examine(&sandbox(), &Ok(Entered::Root), store.path(), &search_path());
    assert!(report.can_execute(), "{report:?}");
    let sandbox = report.findings.iter().find(|finding| finding.subject == "sandbox").unwrap();
    assert_eq!(sandbox.verdict, Verdict::Fine, "{sandbox:?}");
    assert_eq!(std::fs::read_dir(store.path()).unwrap().count(), 0, "nothing is left");
    let _ = mode();
}

#[test]
fn a_host_that_denies_is_explained() {
    let denied = Err(Error::Denied { what: "user namespaces", cause: "a test says so".into(), hint: "mend it".into() });
    let report = examine(&sandbox(), &denied, std::path::Path::new("/nowhere"), &[]);
    assert_eq!(report.verdict(), Verdict::Broken);
    let finding = report.findings.iter().find(|finding| finding.subject == "user namespace").unwrap();
    assert_eq!(finding.hint.as_deref(), Some("mend it"));
    assert!(report.findings.iter().any(|finding| finding.subject == "disk" && finding.verdict == Verdict::Broken));
}
