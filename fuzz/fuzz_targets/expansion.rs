//! Shell words with every option; the first byte chooses the options, the first line the variables.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onetag_dockerfile::shell::{Lex, Variables};

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
    let _ = lex.process_word(word, &Variables::from_lines(environment.lines()));
});
