//! The checks of a Dockerfile, with images that may have triggers.
#![no_main]

use std::error::Error;

use libfuzzer_sys::fuzz_target;
use onetag_dockerfile::lint::{BaseImages, LintConfig, LintRequest, lint};
use onetag_oci::{ImageConfig, Platform, Reference};

struct Images<'a>(&'a str);

impl BaseImages for Images<'_> {
    fn config(&self, _: &Reference, platform: &Platform) -> Result<ImageConfig, Box<dyn Error + Send + Sync>> {
        let mut config = ImageConfig::new(platform);
        config.config.on_build = self.0.lines().take(4).map(str::to_owned).collect();
        Ok(config)
    }
}

fuzz_target!(|input: (&str, &str)| {
    let (triggers, text) = input;
    let config = LintConfig { experimental_all: true, ..LintConfig::default() };
    let request = LintRequest { config: Some(config), ignore_patterns: vec!["a*".into()], ..LintRequest::default() };
    let _ = lint(text.as_bytes(), &request, &Images(triggers)).sorted();
});
