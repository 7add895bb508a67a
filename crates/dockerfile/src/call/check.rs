//! `--call=check`

use serde_json::{Map, Value, json};

use super::{bytes, location, print_json};
use crate::diagnostic::{Diagnostic, excerpt, list};
use crate::lint::LintReport;

/// The findings of the checks, ready to be shown.
#[derive(Clone, Copy, Debug)]
pub struct Check<'a> {
    /// The findings and the error.
    pub report: &'a LintReport,
    /// The name of the file as it is shown.
    pub filename: &'a str,
    /// Its text.
    pub source: &'a str,
}

impl Check<'_> {
    /// How many findings there are, each with its lines. The error is [`Check::error_text`]'s.
    pub fn to_text(&self) -> String {
        let mut warnings: Vec<&Diagnostic> = self.report.warnings.iter().collect();
        warnings.sort_by_key(|warning| warning.first_line());
        let mut text = match warnings.len() {
            0 if self.report.error.is_some() => return String::new(),
            0 => return "Check complete, no warnings found.\n".to_owned(),
            1 => "Check complete, 1 warning has been found!\n".to_owned(),
            count => format!("Check complete, {count} warnings have been found!\n"),
        };
        for warning in warnings {
            let (name, url) = warning.rule.map_or(("", ""), |rule| (rule.name, rule.url));
            text.push_str(&format!("\nWARNING: {name}"));
            if !url.is_empty() {
                text.push_str(&format!(" - {url}"));
            }
            text.push_str(&format!("\n{}\n", warning.message));
            text.push_str(&excerpt(self.filename, self.source, &warning.lines));
        }
        if self.report.error.is_some() {
            text.push('\n');
        }
        text
    }

    /// The error that stopped the checks, with its lines; None where there is none.
    pub fn error_text(&self) -> Option<String> {
        let error = self.report.error.as_ref()?;
        let mut text = format!("{}\n{}", error.message, excerpt(self.filename, self.source, &error.lines));
        // The checks stop at the first error; the others are worth knowing too.
        text.push_str(&list(self.filename, self.source, &self.report.mistakes));
        Some(text)
    }

    /// All of it, with the Dockerfile in base64.
    pub fn to_json(&self) -> String {
        let warnings: Vec<Value> = self.report.warnings.iter().map(warning_json).collect();
        let mut value = json!({
            "warnings": if warnings.is_empty() { Value::Null } else { warnings.into() },
            "sources": [{"filename": self.filename, "data": bytes(self.source), "language": "Dockerfile"}],
        });
        if let Some(error) = &self.report.error {
            value["buildError"] = json!({"message": error.message, "location": location(&error.lines)});
        }
        print_json(&value)
    }

    /// 1 for findings or an error, else 0.
    pub fn status(&self) -> u8 {
        u8::from(!self.report.warnings.is_empty() || self.report.error.is_some())
    }
}

fn warning_json(warning: &Diagnostic) -> Value {
    let mut object = Map::new();
    let rule = warning.rule;
    object.insert("ruleName".to_owned(), rule.map(|rule| rule.name).unwrap_or_default().into());
    let fields = [
        ("description", rule.map(|rule| rule.description).unwrap_or_default()),
        ("url", rule.map(|rule| rule.url).unwrap_or_default()),
        ("detail", &warning.message),
    ];
    for (key, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
        object.insert(key.to_owned(), value.into());
    }
    object.insert("location".to_owned(), location(&warning.lines));
    object.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lint::STAGE_NAME_CASING;
    use crate::span::LineRange;

    #[test]
    fn findings_are_shown_with_their_lines() {
        let source = "FROM a AS B\n";
        let message = "Stage name 'B' should be lowercase".to_owned();
        let warning = Diagnostic::warning(&STAGE_NAME_CASING, message, LineRange::single(1));
        let mut report = LintReport { warnings: vec![warning], ..LintReport::default() };
        let check = Check { report: &report, filename: "Dockerfile", source };
        let url = STAGE_NAME_CASING.url;
        let expected = format!(
            "Check complete, 1 warning has been found!\n\nWARNING: StageNameCasing - {url}\nStage name 'B' should be \
             lowercase\nDockerfile:1\n--------------------\n   1 | >>> FROM a AS B\n   2 |     \n--------------------\n"
        );
        assert_eq!(check.to_text(), expected);
        assert_eq!(check.status(), 1);
        report.warnings.clear();
        let check = Check { report: &report, filename: "Dockerfile", source };
        assert_eq!((check.to_text().as_str(), check.status()), ("Check complete, no warnings found.\n", 0));
    }
}
