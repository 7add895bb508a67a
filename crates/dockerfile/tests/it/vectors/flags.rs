use onetag_dockerfile::flags::csv;
use onetag_dockerfile::instruction::{Command, Mount};
use onetag_dockerfile::parse;
use onetag_dockerfile::shell::{Lex, ShellError, Variables};
use serde_json::{Value, json};

use super::{check_all, same, strings, text, without_suggestion};

/// The kinds that the engine's flag parsers are tested with.
const ELSEWHERE: [&str; 14] = [
    "output",
    "cache",
    "secret",
    "ssh",
    "build_context",
    "platform",
    "attest",
    "provenance",
    "sbom",
    "annotation",
    "ulimit",
    "bytes",
    "call",
    "allow",
];

#[test]
fn dockerfile_flags_vectors() {
    check_all("flags.json", |vector| match text(&vector["kind"]) {
        "csv" => check_csv(vector),
        "run_mount" => check_mount(vector),
        kind if ELSEWHERE.contains(&kind) => Ok(()),
        kind => Err(format!("unknown kind {kind}")),
    });
}

fn check_csv(vector: &Value) -> Result<(), String> {
    match csv::split(strings(&vector["in"]).first().ok_or("no input")?) {
        Ok(fields) => {
            same("error", None, vector["error"].as_str()).and_then(|()| same("fields", fields, strings(&vector["out"])))
        }
        Err(error) => same("error", Some(error.to_string().as_str()), vector["error"].as_str()),
    }
}

fn check_mount(vector: &Value) -> Result<(), String> {
    let dockerfile = format!("FROM scratch\nRUN --mount={} true\n", text(&vector["in"]));
    let recorded = vector["error"].as_str().map(without_suggestion);
    let (file, errors) = parse(dockerfile.as_bytes());
    if let Some(error) = errors.first() {
        let message = error.message.strip_prefix("dockerfile parse error on line 2: ").unwrap_or(&error.message);
        return same("error", Some(without_suggestion(message)), recorded);
    }
    let environment: Variables =
        vector["env"].as_object().into_iter().flatten().map(|(name, value)| (name.clone(), text(value))).collect();
    let mut command = file.stages[0].instructions[0].command.clone();
    let expanded = command.expand::<ShellError>(&mut |word: &str| {
        Lex::new(file.escape).process_word(word, &environment).map(|done| done.value)
    });
    if let Err(error) = expanded {
        return same("error", Some(without_suggestion(&error.to_string())), recorded);
    }
    same("error", None, recorded)?;
    let Command::Run(run) = command else { return Err("no RUN".into()) };
    same("mount", mount(&run.mounts()[0]), vector["mount"].clone())
}

fn mount(mount: &Mount) -> Value {
    let mut value = json!({"type": mount.kind.as_str(), "readonly": mount.readonly});
    for (name, text) in [("from", &mount.from), ("source", &mount.source), ("target", &mount.target), ("id", &mount.id)]
    {
        if !text.is_empty() {
            value[name] = text.clone().into();
        }
    }
    if mount.size_bytes != 0 {
        value["size"] = mount.size_bytes.into();
    }
    if let Some(sharing) = mount.sharing {
        value["sharing"] = sharing.as_str().into();
    }
    if mount.required {
        value["required"] = true.into();
    }
    if let Some(env) = &mount.env {
        value["env"] = env.clone().into();
    }
    if let Some(mode) = mount.mode {
        value["mode"] = format!("{mode:04o}").into();
    }
    for (name, id) in [("uid", mount.uid), ("gid", mount.gid)] {
        if let Some(id) = id {
            value[name] = id.into();
        }
    }
    value
}
