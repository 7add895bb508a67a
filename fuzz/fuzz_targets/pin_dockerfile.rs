//! Images of a Dockerfile, and what becomes of the bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onetag_dockerfile::images::{ImageOptions, images};

const DIGEST: &str = "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fuzz_target!(|content: &[u8]| {
    let options = ImageOptions::default();
    let Ok(found) = images(content, &options) else { return };
    for image in found {
        let (Ok(reference), Ok(site)) = (image.reference, image.site) else { continue };
        let mut pinned = content.to_vec();
        pinned.splice(site.clone(), DIGEST.bytes());
        let expected = reference.with_digest(DIGEST[1..].parse().unwrap());
        // A line can become too long, the one thing that a digest may break.
        let Ok(again) = images(&pinned, &options) else { continue };
        let same = again.iter().find(|again| again.site.as_ref().is_ok_and(|again| again.start == site.start));
        assert_eq!(same.and_then(|same| same.reference.clone().ok()), Some(expected));
    }
});
