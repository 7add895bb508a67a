use proptest::prelude::*;

use super::*;

fn expand(word: &str, lines: &[&str]) -> Result<String, String> {
    let variables = Variables::from_lines(lines);
    Lex::new('\\').process_word(word, &variables).map(|done| done.value).map_err(|error| error.kind.to_string())
}

#[test]
fn modifiers_choose_between_value_and_word() {
    assert_eq!(expand("${A:-x}${B-y}${C:+z}", &["A=", "C=1"]), Ok("xyz".into()));
    assert_eq!(expand("${A?gone}", &[]), Err("A: gone".into()));
    assert_eq!(expand("${A", &["A=1"]), Err("unsupported modifier (\u{fffd}) in substitution".into()));
}

#[test]
fn patterns_trim_and_replace() {
    assert_eq!(expand("${V%%-*}", &["V=1-2-3"]), Ok("1".into()));
    assert_eq!(expand("${V%-*}", &["V=1-2-3"]), Ok("1-2".into()));
    assert_eq!(expand("${V#*-}", &["V=1-2-3"]), Ok("2-3".into()));
    assert_eq!(expand("${V##*-}", &["V=1-2-3"]), Ok("3".into()));
    assert_eq!(expand("${V//-/.}", &["V=1-2-3"]), Ok("1.2.3".into()));
    assert_eq!(expand("${V//[0-9]/\\$0}", &["V=[0-9]"]), Ok("\\[0-9]".into()));
}

#[test]
fn deep_nesting_is_an_error_and_not_a_crash() {
    let word = "${a:-".repeat(100_000) + &"}".repeat(100_000);
    assert_eq!(expand(&word, &[]), Err("substitutions are nested more than 100 deep".into()));
}

#[test]
fn a_used_name_is_reported_as_matched_or_not() {
    let done = Lex::new('\\').process_word("$A$B${A}", &Variables::from_lines(["A=1"])).unwrap();
    assert_eq!(done.matched, BTreeSet::from(["A".to_owned()]));
    assert_eq!(done.unmatched, BTreeSet::from(["B".to_owned()]));
}

proptest! {
    #[test]
    fn any_text_is_expanded_or_refused(word in "[$\\{\\}#%/:?a-c'\"\\\\<* \n*-]{0,40}", value in "[a-c*\n ]{0,8}") {
        let variables = Variables::from_lines([format!("a={value}"), "b=".to_owned()]);
        let _ = Lex::new('\\').process_word(&word, &variables);
    }

    #[test]
    fn text_without_special_characters_is_itself(word in "[a-z/ .=-]{0,40}") {
        prop_assert_eq!(Lex::new('\\').process_word(&word, &Variables::new()).unwrap().value, word);
    }
}
