//! Large blobs in parts: when ranges are to be had, when they are not, and when they break.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use onetag_oci::{Descriptor, Reference, media_type};
use onetag_registry::client::PartPolicy;
use onetag_registry::{Client, ClientOptions};

use crate::scripted::{Asked, Reaction, Scripted, forward};
use crate::support::{TestRegistry, describe, noise, quick};

const PART: u64 = 64 * 1024;

/// Options with which everything pays.
fn eager() -> ClientOptions {
    ClientOptions { parts: PartPolicy { after: Duration::ZERO, part_bytes: PART, parallel: 4 }, ..quick() }
}

/// A registry that has one blob, behind a server that does as it is told.
struct Behind {
    _registry: TestRegistry,
    front: Scripted,
    blob: Vec<u8>,
    descriptor: Descriptor,
}

impl Behind {
    fn start(react: impl Fn(std::net::SocketAddr, &Asked) -> Reaction + Send + Sync + 'static) -> Self {
        let registry = TestRegistry::start();
        let blob = noise(1_500_000, 21);
        let descriptor = describe(&blob, media_type::OCI_LAYER);
        crate::support::client().push_blob(&registry.reference("a"), &descriptor, &blob, &[]).expect("pushed");
        let upstream = registry.address();
        let front = Scripted::start(move |asked| react(upstream, asked));
        Behind { _registry: registry, front, blob, descriptor }
    }

    fn fetch(&self, options: ClientOptions) -> onetag_registry::Result<Vec<u8>> {
        let reference = Reference::parse(&format!("{}/a", self.front.host())).expect("reference");
        let mut fetched = Vec::new();
        Client::new(options).fetch_blob(&reference, &self.descriptor, &mut fetched)?;
        Ok(fetched)
    }

    /// First and last byte of every range asked for, in order.
    fn ranges(&self) -> Vec<(u64, u64)> {
        let mut ranges: Vec<_> = self.front.asked().iter().filter_map(range_of).collect();
        ranges.sort_unstable();
        ranges
    }
}

fn range_of(asked: &Asked) -> Option<(u64, u64)> {
    let (first, last) = asked.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}

#[test]
fn parts_are_fetched_at_once_and_put_together() {
    let (now, most) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let seen = most.clone();
    let behind = Behind::start(move |upstream, asked| {
        if range_of(asked).is_some() {
            let count = now.fetch_add(1, Ordering::SeqCst) + 1;
            seen.fetch_max(count, Ordering::SeqCst);
            // Whoever fetches one part after the other never gets beyond one here.
            let started = Instant::now();
            while seen.load(Ordering::SeqCst) < 4 && started.elapsed() < Duration::from_secs(2) {
                std::thread::sleep(Duration::from_millis(1));
            }
            now.fetch_sub(1, Ordering::SeqCst);
        }
        forward(upstream, asked).react()
    });
    assert_eq!(behind.fetch(eager()).expect("fetched"), behind.blob);
    assert_eq!(most.load(Ordering::SeqCst), 4);
    let ranges = behind.ranges();
    assert!(ranges.len() > 10, "{ranges:?}");
    assert_eq!(ranges.last().map(|range| range.1), Some(behind.blob.len() as u64 - 1));
    for pair in ranges.windows(2) {
        assert_eq!(pair[0].1 + 1, pair[1].0, "nothing is asked for twice or left out");
    }
}

#[test]
fn what_arrives_fast_is_one_request() {
    let behind = Behind::start(|upstream, asked| forward(upstream, asked).react());
    assert_eq!(behind.fetch(quick()).expect("fetched"), behind.blob);
    assert_eq!(behind.front.asked().len(), 1);
}

#[test]
fn a_part_that_breaks_is_resumed_where_it_broke() {
    let breaks = AtomicUsize::new(3);
    let behind = Behind::start(move |upstream, asked| {
        let answer = forward(upstream, asked);
        let whole = range_of(asked).is_some_and(|(first, last)| last - first + 1 == PART);
        if whole && breaks.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            let mut bytes = answer.bytes("GET");
            bytes.truncate(bytes.len() - 1000);
            return Reaction::Raw(bytes);
        }
        answer.react()
    });
    assert_eq!(behind.fetch(eager()).expect("fetched"), behind.blob);
    let resumed = behind.ranges().into_iter().filter(|(first, last)| last - first + 1 == 1000).count();
    assert_eq!(resumed, 3);
}

#[test]
fn registries_without_ranges_send_the_whole() {
    let behind = Behind::start(|upstream, asked| {
        let bare = Asked { headers: Vec::new(), ..asked.clone() };
        forward(upstream, &bare).react()
    });
    assert_eq!(behind.fetch(eager()).expect("fetched"), behind.blob);
    assert!(behind.front.asked().len() <= 6, "{}", behind.front.asked().len());
    let refusing = Behind::start(|upstream, asked| match asked.header("range") {
        Some(range) if !range.ends_with('-') => crate::scripted::Answer::new(416).react(),
        _ => forward(upstream, asked).react(),
    });
    assert_eq!(refusing.fetch(eager()).expect("fetched"), refusing.blob);
}

#[test]
fn a_wrong_byte_in_a_part_is_noticed() {
    let wrong = AtomicUsize::new(1);
    let behind = Behind::start(move |upstream, asked| {
        let mut answer = forward(upstream, asked);
        let once = || wrong.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if range_of(asked).is_some() && once() {
            answer.body[17] ^= 1;
        }
        answer.react()
    });
    assert_eq!(behind.fetch(eager()).expect("fetched anew"), behind.blob);
    let always = Behind::start(|upstream, asked| {
        let mut answer = forward(upstream, asked);
        if range_of(asked).is_some() {
            answer.body[17] ^= 1;
        }
        answer.react()
    });
    let error = always.fetch(eager()).expect_err("wrong for good");
    assert!(matches!(error, onetag_registry::Error::DigestMismatch { .. }), "{error:?}");
}
