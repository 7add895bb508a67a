//! Lists as Docker's `--format` prints them: `table`, `table TEMPLATE`, `json`, a template a row.

use crate::error::CommandResult;
use crate::tabwriter::TabWriter;
use crate::template::{JsonStyle, Template, Value};

/// Renders rows. `headers` names the columns that a table may show.
///
/// # Errors
/// When the template is none, or fails on a row.
pub fn render(format: &str, headers: &[(&str, &str)], rows: impl IntoIterator<Item = Value>) -> CommandResult<String> {
    let (is_table, text) = match format.strip_prefix("table") {
        Some(rest) => (true, rest.trim()),
        None => (false, format),
    };
    // on a command line, tabs and newlines of a template are usually written as escapes
    let text = text.replace("\\t", "\t").replace("\\n", "\n");
    let template = Template::parse(if text == "json" { "{{json .}}" } else { &text })?;
    let mut table = TabWriter::new(if is_table { 10 } else { 0 }, if is_table { 3 } else { 0 });
    let mut out = String::new();
    if is_table {
        let header = Value::map(headers.iter().map(|(name, title)| ((*name).to_owned(), Value::from(*title))));
        table.line(template.execute(&header, JsonStyle::Compact)?);
    }
    for row in rows {
        let line = template.execute(&row, JsonStyle::Compact)?;
        if is_table {
            line.split('\n').for_each(|line| table.line(line));
        } else {
            out += &line;
            out.push('\n');
        }
    }
    Ok(if is_table { table.finish() } else { out })
}

#[cfg(test)]
mod tests {
    use super::render;
    use crate::template::Value;

    #[test]
    fn tables_have_headers_and_templates_do_not() {
        let rows = [Value::map([("A".to_owned(), Value::from("one")), ("B".to_owned(), Value::from("two"))])];
        let headers = [("A", "FIRST"), ("B", "SECOND")];
        assert_eq!(
            render("table {{.A}}\\t{{.B}}", &headers, rows.clone()).unwrap(),
            "FIRST     SECOND\none       two\n"
        );
        assert_eq!(render("{{.B}}", &headers, rows.clone()).unwrap(), "two\n");
        assert_eq!(render("json", &headers, rows.clone()).unwrap(), "{\"A\":\"one\",\"B\":\"two\"}\n");
        assert!(render("{{.A", &headers, rows).is_err());
    }
}
