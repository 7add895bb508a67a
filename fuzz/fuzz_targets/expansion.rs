//! Shell words with every option; the first byte chooses the options, the first line the variables.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onetag_dockerfile::shell::{Lex, Variables};
use onetag_fuzz::bounded;

fuzz_target!(|input: (u8, &str, &str)| {
    let (options, environment, word) = input;
    let is_set = |bit: u8| options & (1 << bit) != 0;
    let lex = Lex {
        escape: if is_set(0) { '`' } else { '\\' },
        raw_quotes: is_set(1),
        raw_escapes: is_set(2),
        skip_process_quotes: is_set(3),
        skip_unset_env: is_set(4),
    };
    let variables = Variables::from_lines(environment.lines());
    // A reference may yield as much as all variables hold.
    let result_bytes = word.len() * (1 + environment.len() / 2);
    let _ = bounded(environment.len() + result_bytes, || lex.process_word(word, &variables));
});
