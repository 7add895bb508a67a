use onetag_dockerfile::chmod::Mode;
use serde_json::Value;

use super::{check_all, same, text};

#[test]
fn chmod_mode_vectors() {
    check_all("chown_chmod_mode.json", check);
}

fn check(vector: &Value) -> Result<(), String> {
    match Mode::parse(text(&vector["mode"])) {
        Ok(mode) => {
            same("error", None, vector["error"].as_str())?;
            let from = u32::from_str_radix(text(&vector["from"]), 8).map_err(|error| error.to_string())?;
            let applied = mode.apply(from, vector["dir"].as_bool().unwrap_or_default());
            same("mode", format!("{applied:04o}").as_str(), text(&vector["out"]))
        }
        Err(error) => same("error", Some(error.to_string().as_str()), vector["error"].as_str()),
    }
}
