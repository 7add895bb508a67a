use serde_json::json;

use super::{Field, JsonStyle, Kind, Schema, Template, Value};

static PLATFORM: Schema = Schema {
    type_name: "v1.Platform",
    fields: &[
        Field { name: "Architecture", json: "architecture", kind: Kind::Text, omit_empty: false },
        Field { name: "OS", json: "os", kind: Kind::Text, omit_empty: false },
        Field { name: "OSVersion", json: "os.version", kind: Kind::Text, omit_empty: true },
        Field { name: "OSFeatures", json: "os.features", kind: Kind::Texts, omit_empty: true },
        Field { name: "Variant", json: "variant", kind: Kind::Text, omit_empty: true },
    ],
};

fn run(text: &str, value: &Value) -> String {
    match Template::parse(text).and_then(|template| template.execute(value, JsonStyle::Compact)) {
        Ok(text) => text,
        Err(error) => format!("error: {error}"),
    }
}

fn sample() -> Value {
    Value::from_json(&json!({
        "Name": "app", "Size": 7, "Ratio": 0.5, "Tags": ["a", "b", "c"], "Empty": [], "Labels": {"x": "1", "y": "2"},
        "Nothing": null, "Html": "<b>", "Yes": true,
    }))
}

#[test]
fn actions_print_as_go_prints() {
    let value = sample();
    for (template, expected) in [
        ("plain", "plain"),
        ("{{.Name}}/{{.Size}}/{{.Ratio}}/{{.Tags}}/{{.Labels}}/{{.Yes}}", "app/7/0.5/[a b c]/map[x:1 y:2]/true"),
        ("{{.Absent}} {{.Nothing}}", "<no value> <no value>"),
        ("{{json .Tags}} {{json .Html}} {{.Tags | json}}", r#"["a","b","c"] "\u003cb\u003e" ["a","b","c"]"#),
        ("{{range .Tags}}<{{.}}>{{end}}", "<a><b><c>"),
        ("{{range $i, $t := .Tags}}{{if $i}},{{end}}{{$i}}{{$t}}{{end}}", "0a,1b,2c"),
        ("{{range $k, $v := .Labels}}{{$k}}={{$v}};{{end}}", "x=1;y=2;"),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ("{{range .Tags}}{{if eq . \"b\"}}{{break}}{{end}}{{.}}{{end}}", "a"),
        ("{{range .Tags}}{{if eq . \"b\"}}{{continue}}{{end}}{{.}}{{end}}", "ac"),
        ("{{with .Name}}{{.}}{{$.Size}}{{else}}no{{end}}", "app7"),
        ("{{with .Nothing}}x{{else with .Name}}y{{.}}{{end}}", "yapp"),
        ("{{if and .Name (gt .Size 3)}}big{{else if .Name}}small{{end}}", "big"),
        ("{{$x := 1}}{{range .Tags}}{{$x = 5}}{{end}}{{$x}}", "5"),
        ("a {{- .Name -}} b", "aappb"),
        ("a{{/* c */}}b {{- /* d */ -}} c", "abc"),
        ("{{index .Tags 1}} {{index .Labels \"y\"}} {{len .Tags}} {{slice .Name 1 2}}", "b 2 3 p"),
        ("{{(index .Tags 0)}}", "a"),
        (
            "{{printf \"%s|%5d|%-5s|%q|%v|%05d|%.2f|%x\" .Name .Size .Name .Name .Tags 42 .Ratio 255}}",
            "app|    7|app  |\"app\"|[a b c]|00042|0.50|ff",
        ),
        ("{{printf \"%d %s\" .Name}}", "%!d(string=app) %!s(MISSING)"),
        ("{{print 1 2 \"a\" 3}} {{println .Name}}", "1 2a3 app\n"),
        (
            "{{join .Tags \"-\"}} {{upper .Name}} {{title \"two words\"}} {{split \"a,b\" \",\"}}",
            "a-b-c APP Two Words [a b]",
        ),
        (
            "{{not .Yes}} {{or .Nothing .Name}} {{and .Yes .Name}} {{eq .Size 1 7}} {{ne .Name \"x\"}} {{lt 1 2}}",
            "false app app true true true",
        ),
        ("{{define \"T\"}}[{{.}}]{{end}}{{template \"T\" .Name}}", "[app]"),
        ("{{block \"T\" .Name}}<{{.}}>{{end}}", "<app>"),
        ("{{`raw`}}{{'a'}}{{true}}{{1.5}}{{0x10}}", "raw97true1.516"),
        ("{{html .Html}} {{urlquery \"a b/\"}}", "&lt;b&gt; a+b%2F"),
        ("{{pad .Name 1 2}}|{{truncate .Name 2}}", " app  |ap"),
    ] {
        assert_eq!(run(template, &value), expected, "{template}");
    }
}

#[test]
fn mistakes_are_told_as_go_tells_them() {
    let value = sample();
    for (template, expected) in [
        ("{{", "error: template: :1: unclosed action"),
        ("{{.Name", "error: template: :1: unclosed action"),
        ("\n{{nosuch .}}", "error: template: :2: function \"nosuch\" not defined"),
        ("{{if .Name}}", "error: template: :1: unexpected EOF"),
        ("{{end}}", "error: template: :1: unexpected {{end}}"),
        ("{{}}", "error: template: :1: missing value for command"),
        ("{{break}}", "error: template: :1: {{break}} outside {{range}}"),
        ("{{.Name.X}}", "error: template: :1:7: executing \"\" at <.Name.X>: can't evaluate field X in type string"),
        (
            "{{index .Tags 9}}",
            "error: template: :1:2: executing \"\" at <index .Tags 9>: error calling index: index out of range: 9",
        ),
        ("{{len}}", "error: template: :1:2: executing \"\" at <len>: wrong number of args for len: want 1 got 0"),
        ("{{$x}}", "error: template: :1:2: executing \"\" at <$x>: undefined variable: $x"),
        (
            "{{range .Size}}{{.}}{{end}}{{range .Name}}{{end}}",
            "error: template: :1:35: executing \"\" at <.Name>: range can't iterate over app",
        ),
    ] {
        assert_eq!(run(template, &value), expected, "{template}");
    }
    let deep = "{{if 1}}".repeat(100_000);
    assert!(run(&deep, &value).starts_with("error: "));
    let deep = format!("{{{{{}", "(".repeat(100_000));
    assert!(run(&deep, &value).starts_with("error: "));
}

#[test]
fn structs_print_all_their_fields_and_know_their_names() {
    let arm = json!({"os": "linux", "architecture": "arm", "variant": "v7", "unknown": 1});
    let value =
        Value::map([("P".to_owned(), PLATFORM.value(&arm)), ("Q".to_owned(), PLATFORM.value_behind_interface(&arm))]);
    assert_eq!(run("{{.P}}", &value), "{arm linux  [] v7}");
    assert_eq!(run("{{.P.OS}}/{{.P.Architecture}}/{{.P.Variant}}", &value), "linux/arm/v7");
    assert_eq!(run("{{json .P}}", &value), r#"{"architecture":"arm","os":"linux","variant":"v7"}"#);
    assert_eq!(
        run("{{.P.Nope}}", &value),
        "error: template: :1:4: executing \"\" at <.P.Nope>: can't evaluate field Nope in type v1.Platform"
    );
    assert_eq!(
        run("{{.Q.Nope}}", &value),
        "error: template: :1:4: executing \"\" at <.Q.Nope>: can't evaluate field Nope in type interface {}"
    );
    assert_eq!(
        run(
            "{{(index .M \"zz\").OS}}",
            &Value::map([("M".to_owned(), Value::map([("a".to_owned(), PLATFORM.value(&arm))]))])
        ),
        "error: template: :1:17: executing \"\" at <(index .M \"zz\").OS>: nil pointer evaluating *v1.Platform.OS"
    );
}
