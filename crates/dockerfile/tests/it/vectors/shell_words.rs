use onetag_dockerfile::shell::{Lex, Variables};
use serde_json::Value;

use super::{check_all, same, strings, text};

#[test]
fn shell_words_vectors() {
    check_all("shellwords.json", check);
}

fn check(vector: &Value) -> Result<(), String> {
    let mut lex = Lex::new(text(&vector["escape"]).chars().next().ok_or("no escape")?);
    for option in strings(&vector["opts"]) {
        match option.as_str() {
            "raw_quotes" => lex.raw_quotes = true,
            "raw_escapes" => lex.raw_escapes = true,
            "skip_process_quotes" => lex.skip_process_quotes = true,
            "skip_unset_env" => lex.skip_unset_env = true,
            other => return Err(format!("unknown option {other}")),
        }
    }
    let environment: Variables =
        vector["env"].as_object().into_iter().flatten().map(|(name, value)| (name.clone(), text(value))).collect();
    match lex.process_word(text(&vector["in"]), &environment) {
        Ok(done) => {
            same("an error", None, vector["word_error"].as_str())?;
            same("value", done.value.as_str(), text(&vector["word"]))?;
            same("words", done.words.iter().map(str::to_owned).collect(), strings(&vector["words"]))?;
            same("matched", done.matched, strings(&vector["matched"]).into_iter().collect())?;
            same("unmatched", done.unmatched, strings(&vector["unmatched"]).into_iter().collect())
        }
        Err(error) => same("error", Some(error.to_string().as_str()), vector["word_error"].as_str()),
    }
}
