use super::*;

fn nodes(text: &str) -> Vec<Node> {
    Parser::new(text).map(|node| node.unwrap()).collect()
}

#[test]
fn spans_point_into_the_file_across_continuation_lines() {
    let text = "FROM a\n  COPY --from=b \\\n    # not this\n    x \\\n  /y\n";
    let nodes = nodes(text);
    let copy = &nodes[1];
    assert_eq!(copy.lines, LineRange::new(2, 5));
    let at = |word: &Word| {
        let span = copy.word_span(word);
        (span.start.to_string(), span.end.to_string())
    };
    assert_eq!(at(&copy.keyword), ("2:3".into(), "2:7".into()));
    assert_eq!(at(&copy.flags[0]), ("2:8".into(), "2:16".into()));
    assert_eq!(at(&copy.args[0]), ("4:5".into(), "4:6".into()));
    assert_eq!(at(&copy.args[1]), ("5:3".into(), "5:5".into()));
}

#[test]
fn reading_goes_on_after_an_error() {
    let text = "FROM a\nENV A\nCMD [1]\nRUN ok\n";
    let results: Vec<_> = Parser::new(text).collect();
    assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, false, true]);
}

#[test]
fn a_line_may_have_64_kibibytes_with_its_end() {
    let fits = format!("FROM a\nRUN {}\n", "x".repeat(MAX_LINE_BYTES - 5));
    assert!(Parser::new(&fits).all(|node| node.is_ok()));
    let too_long = format!("FROM a\nRUN {}\n", "x".repeat(MAX_LINE_BYTES - 4));
    let last = Parser::new(&too_long).last().unwrap().unwrap_err();
    assert_eq!(last.kind, SyntaxErrorKind::LineTooLong);
}

#[test]
fn the_span_of_nothing_is_empty_also_between_continuation_lines() {
    for node in nodes("\0\0\\\n\\\n") {
        for word in &node.args {
            let span = node.word_span(word);
            assert_eq!(span.start, span.end);
        }
    }
}

#[test]
fn nested_onbuild_ends_somewhere() {
    let text = "ONBUILD ".repeat(5_000);
    assert_eq!(nodes(&text).len(), 1);
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_and_spans_stay_inside(text in "[A-Z<\\\\#= \n\t\"'\\[\\]a-c-]{0,200}") {
        let lines = text.split('\n').count() as u32;
        for node in Parser::new(&text).flatten() {
            for word in node.flags.iter().chain(&node.args).chain([&node.keyword]) {
                let span = node.word_span(word);
                proptest::prop_assert!(span.start <= span.end && span.end.line <= lines);
            }
        }
    }
}
