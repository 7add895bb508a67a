//! What `--call` asks of a Dockerfile in place of a build: its targets, its parameters, its checks.
//! Each answer is shown as text or as JSON, in the form that buildx prints.

mod check;
mod outline;
mod targets;

pub use check::Check;
pub use outline::{Outline, OutlineArgument, OutlineSecret, outline};
pub use targets::{Target, Targets, targets};

use base64::Engine as _;
use serde_json::{Value, json};

use crate::diagnostic::Diagnostic;
use crate::span::LineRange;

/// The error of a file that cannot be read; the first, which is BuildKit's.
fn first(errors: Vec<Diagnostic>) -> Option<Box<Diagnostic>> {
    errors.into_iter().next().map(Box::new)
}

/// Bytes in JSON.
fn bytes(text: &str) -> Value {
    base64::engine::general_purpose::STANDARD.encode(text).into()
}

/// Lines in JSON: one range a line.
fn location(lines: &[LineRange]) -> Value {
    let lines = lines.iter().flat_map(|lines| lines.start..=lines.end);
    let ranges: Vec<Value> = lines.map(|line| json!({"start": {"line": line}, "end": {"line": line}})).collect();
    if ranges.is_empty() { json!({}) } else { json!({ "ranges": ranges }) }
}

/// Indented JSON with a line end.
fn print_json(value: &Value) -> String {
    let mut text = String::from_utf8_lossy(&onetag_oci::go_json_indent(value, "  ")).into_owned();
    text.push('\n');
    text
}

/// Rows with their columns aligned, as Go's `tabwriter` does: each cell but the last of a row is
/// as wide as the widest of its column plus `padding`.
fn table(rows: &[Vec<&str>], padding: usize) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = rows.iter().filter(|row| column + 1 < row.len()).map(|row| row[column].chars().count());
            cells.max().unwrap_or_default() + padding
        })
        .collect();
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            text.push_str(cell);
            if column + 1 < row.len() {
                text.push_str(&" ".repeat(widths[column] - cell.chars().count()));
            }
        }
        text.push('\n');
    }
    text
}
