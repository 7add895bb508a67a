use std::collections::BTreeMap;

use jiff::Timestamp;
use onetag_oci::Digest;

use super::plain::PlainPrinter;
use super::trace::Trace;
use super::{Log, Status, Update, Vertex, Warning};

fn digest(name: &str) -> Digest {
    Digest::sha256(name.as_bytes())
}

fn at(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(1_700_000_000_000 + milliseconds).unwrap()
}

fn vertex(name: &str, started: Option<i64>, completed: Option<i64>) -> Vertex {
    Vertex {
        digest: digest(name),
        inputs: Vec::new(),
        name: name.to_owned(),
        started: started.map(at),
        completed: completed.map(at),
        cached: false,
        error: String::new(),
        class: None,
        targets: Vec::new(),
    }
}

fn update(vertex: Vertex) -> Update {
    Update { vertexes: vec![vertex], ..Update::default() }
}

fn log(name: &str, text: &str, when: i64) -> Update {
    let log = Log { vertex: digest(name), stream: 1, data: text.as_bytes().to_vec(), timestamp: at(when) };
    Update { logs: vec![log], ..Update::default() }
}

fn plain(updates: Vec<Update>) -> String {
    let mut out = Vec::new();
    let mut printer = PlainPrinter::new(&mut out, "building with \"bk\" instance using remote driver".to_owned());
    let mut trace = Trace::default();
    for update in updates {
        trace.apply(update);
        printer.print(&mut trace).unwrap();
    }
    printer.finish(&mut trace).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn plain_output_of_a_step_with_transfers() {
    let name = "[internal] load build definition from Dockerfile";
    let status = |current, completed: Option<i64>| Status {
        id: "transferring dockerfile:".to_owned(),
        vertex: digest(name),
        name: "transferring".to_owned(),
        total: 0,
        current,
        timestamp: at(3),
        started: Some(at(1)),
        completed: completed.map(at),
    };
    let text = plain(vec![
        update(vertex(name, None, None)),
        Update {
            vertexes: vec![vertex(name, Some(0), Some(4))],
            statuses: vec![status(30, None), status(361, Some(3))],
            ..Update::default()
        },
    ]);
    assert_eq!(
        text,
        "#0 building with \"bk\" instance using remote driver\n\n\
         #1 [internal] load build definition from Dockerfile\n#1 transferring dockerfile: 361B done\n#1 DONE 0.0s\n"
    );
}

#[test]
fn plain_output_of_logs_failures_and_cancelled_steps() {
    let mut failed = vertex("RUN exit 3", Some(100), Some(200));
    failed.error = "process \"/bin/sh -c exit 3\" did not complete successfully: exit code: 3".to_owned();
    let mut cancelled = vertex("RUN sleep 9", Some(100), Some(210));
    cancelled.error = "context canceled".to_owned();
    let mut cached = vertex("COPY a b", Some(1), Some(2));
    cached.cached = true;
    let text = plain(vec![
        update(cached),
        update(vertex("RUN exit 3", Some(100), None)),
        log("RUN exit 3", "before\npart", 150),
        log("RUN exit 3", "ial\n", 160),
        update(vertex("RUN sleep 9", Some(100), None)),
        update(failed),
        update(cancelled),
    ]);
    assert_eq!(
        text,
        "#0 building with \"bk\" instance using remote driver\n\n#1 COPY a b\n#1 CACHED\n\n#2 RUN exit 3\n\
         #2 0.050 before\n#2 0.050 partial\n\
         #2 ERROR: process \"/bin/sh -c exit 3\" did not complete successfully: exit code: 3\n\n\
         #3 RUN sleep 9\n#3 CANCELED\n------\n > RUN exit 3:\n0.050 before\n0.050 partial\n------\n"
    );
}

#[test]
fn an_interrupted_step_is_taken_up_again_under_its_number() {
    let text = plain(vec![
        update(vertex("A", Some(0), None)),
        log("A", "one\n", 1),
        update(vertex("B", Some(0), Some(50))),
        log("A", "two\n", 60),
        update(vertex("A", Some(0), Some(1500))),
    ]);
    assert_eq!(
        text,
        "#0 building with \"bk\" instance using remote driver\n\n#1 A\n#1 0.001 one\n#1 ...\n\n#2 B\n#2 DONE 0.1s\n\n\
         #1 A\n#1 0.060 two\n#1 DONE 1.5s\n"
    );
}

#[test]
fn raw_json_has_the_recorded_shape() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/recorded/progress/rawjson-two-platforms.jsonl");
    let recorded = std::fs::read_to_string(path).unwrap();
    let mut known: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for line in recorded.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        for kind in ["vertexes", "statuses"] {
            for item in value[kind].as_array().into_iter().flatten() {
                let keys: Vec<_> = item.as_object().unwrap().keys().cloned().collect();
                known.entry(kind).or_default().extend(keys);
            }
        }
    }
    let mut full = vertex("x", Some(0), Some(1));
    full.inputs = vec![digest("y")];
    full.cached = true;
    let status = Status {
        id: "s".to_owned(),
        vertex: digest("x"),
        name: "transferring".to_owned(),
        total: 0,
        current: 0,
        timestamp: at(0),
        started: Some(at(0)),
        completed: Some(at(1)),
    };
    let warning = Warning {
        vertex: digest("x"),
        level: 1,
        short: "w".to_owned(),
        detail: vec!["d".to_owned()],
        url: String::new(),
    };
    let all = Update { vertexes: vec![full], statuses: vec![status], logs: Vec::new(), warnings: vec![warning] };
    let written: serde_json::Value = serde_json::from_slice(&onetag_oci::go_json(&all)).unwrap();
    for kind in ["vertexes", "statuses"] {
        for key in written[kind][0].as_object().unwrap().keys() {
            assert!(known[kind].contains(key), "{kind} never has {key}");
        }
    }
    assert_eq!(written["warnings"][0]["short"], "dw==");
    assert_eq!(written["statuses"][0]["timestamp"], "2023-11-14T22:13:20Z");
    assert!(
        String::from_utf8(onetag_oci::go_json(&update(vertex("a > b", None, None)))).unwrap().contains("a \\u003e b")
    );
}
