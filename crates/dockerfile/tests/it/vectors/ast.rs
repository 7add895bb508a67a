use onetag_dockerfile::instruction::Command;
use onetag_dockerfile::parser::{Heredoc, Node, Parser, detect_syntax};
use onetag_dockerfile::{Dockerfile, diagnostic::Diagnostic, parse};
use serde_json::{Value, json};

use super::{check_all, same, text, without_suggestion};

#[test]
fn dockerfile_ast_vectors() {
    check_all("dockerfile_ast.json", check);
}

fn check(vector: &Value) -> Result<(), String> {
    let source = text(&vector["dockerfile"]);
    let syntax = detect_syntax(source)
        .map(|found| json!({"ref": found.value, "cmdline": found.text, "line": found.line}))
        .unwrap_or(Value::Null);
    same("syntax", &syntax, &vector["syntax"])?;

    let mut parser = Parser::new(source);
    let results: Vec<_> = parser.by_ref().collect();
    let (file, errors) = parse(source.as_bytes());
    if let Some(error) = results.iter().find_map(|result| result.as_ref().err()) {
        same("error", Some(error.kind.to_string().as_str()), vector["error"].as_str())?;
        let lines = [u64::from(error.lines.start), u64::from(error.lines.end)].map(Some);
        same("error lines", lines, [vector["error_line"].as_u64(), vector["error_end_line"].as_u64()])?;
        return same("reported error", errors[0].message.as_str(), text(&vector["error"]));
    }
    same("error", None, vector["error"].as_str())?;
    same("escape", parser.escape().to_string().as_str(), text(&vector["escape"]))?;
    let instructions: Vec<Value> = results.iter().flatten().map(|node| instruction(node, true)).collect();
    same("instructions", &Value::from(instructions), &vector["instructions"])?;
    let warnings: Vec<Value> = parser
        .empty_continuations
        .iter()
        .map(|found| json!({"short": format!("Empty continuation line found in: {}", found.text), "line": found.line}))
        .collect();
    same("warnings", warnings, vector["warnings"].as_array().cloned().unwrap_or_default())?;
    semantics(vector, &file, &errors)
}

fn semantics(vector: &Value, file: &Dockerfile, errors: &[Diagnostic]) -> Result<(), String> {
    if let Some(error) = errors.first() {
        let recorded = vector["semantic_error"].as_str().map(without_suggestion);
        same("semantic error", Some(without_suggestion(&error.message)), recorded)?;
        let lines = error.lines.first().ok_or("an error without lines")?;
        let recorded = [vector["semantic_error_line"].as_u64(), vector["semantic_error_end_line"].as_u64()];
        return same("semantic error lines", [lines.start, lines.end].map(|line| Some(u64::from(line))), recorded);
    }
    same("semantic error", None, vector["semantic_error"].as_str())?;
    let stages: Vec<Value> = file
        .stages
        .iter()
        .map(|stage| {
            let commands: Vec<&str> = stage.instructions.iter().map(|command| command.keyword()).collect();
            let mut value = json!({"base": stage.base, "commands": commands});
            if !stage.name.is_empty() {
                value["name"] = stage.name.clone().into();
            }
            if !stage.platform.is_empty() {
                value["platform"] = stage.platform.clone().into();
            }
            value
        })
        .collect();
    same("stages", stages, vector["stages"].as_array().cloned().unwrap_or_default())?;
    let mut globals = Vec::new();
    for meta in &file.meta_args {
        let Command::Arg(arg) = &meta.command else { return Err("a meta argument that is no ARG".into()) };
        for definition in &arg.args {
            let mut value = json!({"key": definition.key});
            if let Some(default) = &definition.value {
                value["value"] = default.clone().into();
            }
            globals.push(value);
        }
    }
    same("global args", globals, vector["global_args"].as_array().cloned().unwrap_or_default())
}

fn instruction(node: &Node, outermost: bool) -> Value {
    let mut value = json!({"cmd": node.keyword.text});
    if !node.flags.is_empty() {
        value["flags"] = node.flags.iter().map(|word| word.text.as_str()).collect();
    }
    match &node.sub {
        Some(sub) => value["sub"] = instruction(sub, false),
        None => value["args"] = Value::from(node.args.iter().map(|word| word.text.as_str()).collect::<Vec<_>>()),
    }
    if node.json {
        value["json"] = true.into();
    }
    if !node.heredocs.is_empty() {
        value["heredocs"] = node.heredocs.iter().map(heredoc).collect();
    }
    if outermost {
        value["start"] = node.lines.start.into();
        value["end"] = node.lines.end.into();
    }
    value["original"] = node.original.clone().into();
    if !node.comments.is_empty() {
        value["comments"] = node.comments.clone().into();
    }
    value
}

fn heredoc(heredoc: &Heredoc) -> Value {
    json!({
        "name": heredoc.name,
        "fd": heredoc.file_descriptor,
        "expand": heredoc.expand,
        "chomp": heredoc.chomp,
        "content": heredoc.content,
    })
}
