//! What of YAML is read, and how.

use std::sync::Arc;

use super::builder::DEPTH;
use super::*;
use crate::config::problem::{Code, Problem, Source};

fn tree(text: &str) -> (Option<Node>, Vec<Problem>) {
    let source = Arc::new(Source {
        name: "t.yaml".to_owned(),
        text: text.to_owned(),
    });
    read(&source, &|name| match name {
        "PORT" => Some("8080".to_owned()),
        "NOTHING" => Some(String::new()),
        "EVIL" => Some("a: [1, 2]\n- b".to_owned()),
        _ => None,
    })
}

/// A tree as text: plain scalars bare, others in quotes.
fn show(node: &Node) -> String {
    match &node.kind {
        Kind::Null => "null".to_owned(),
        Kind::Broken => "broken".to_owned(),
        Kind::Scalar { text, plain: true } => text.to_string(),
        Kind::Scalar { text, plain: false } => format!("{text:?}"),
        Kind::Sequence(items) => {
            format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(" "))
        }
        Kind::Mapping(entries) => {
            let entries: Vec<_> = entries
                .iter()
                .map(|(key, node)| format!("{}={}", key.text, show(node)))
                .collect();
            format!("{{{}}}", entries.join(" "))
        }
    }
}

#[test]
fn trees() {
    for (text, expected) in [
        (
            "a: 1\nb: 'x'\nc:\nd: ~\ne: \"\"",
            r#"{a=1 b="x" c=null d=null e=""}"#,
        ),
        (r#"{"a": [1, true, null, "1"]}"#, r#"{a=[1 true null "1"]}"#),
        ("- no\n- 0x10\n- 1.20", "[no 0x10 1.20]"),
        ("a: &x [1]\nb: *x", "{a=[1] b=[1]}"),
        (
            "base: &b { k: 1, l: 2 }\na: { <<: *b, l: 3 }",
            "{base={k=1 l=2} a={l=3 k=1}}",
        ),
        ("a: { <<: [{ k: 1 }, { k: 2, m: 3 }] }", "{a={k=1 m=3}}"),
        ("a: { '<<': 1 }", "{a={<<=1}}"),
        ("a: !!str 12\nb: !!int 12", r#"{a="12" b=12}"#),
        (
            "a: ${PORT}\nb: \":${PORT}\"\nc: '${NONE:-x}y'",
            "{a=8080 b=:8080 c=xy}",
        ),
        (
            "a: ${NOTHING}\nb: ${NOTHING:-d}\nc: '$${PORT} $PORT $'",
            r#"{a= b=d c="${PORT} $PORT $"}"#,
        ),
        // A variable is text whatever stands in it.
        ("a: ${EVIL}", "{a=a: [1, 2]\n- b}"),
        ("${PORT}: 1", "{${PORT}=1}"),
        ("a: |\n  x\n  y\n", r#"{a="x\ny\n"}"#),
        ("... \n", "null"),
    ] {
        let (root, problems) = tree(text);
        assert!(problems.is_empty(), "{text}: {problems:?}");
        assert_eq!(
            root.as_ref().map_or("null".to_owned(), show),
            expected,
            "{text}"
        );
    }
}

#[test]
fn refusals() {
    for (text, code) in [
        ("a: [1", Code::Syntax),
        ("a:\n\t- 1", Code::Syntax),
        ("a: *x", Code::Syntax),
        ("a: &x [*x]", Code::Syntax),
        ("a: 1\na: 2", Code::DuplicateKey),
        ("{ a: 1, \"a\": 2 }", Code::DuplicateKey),
        ("[a]: 1", Code::Unsupported),
        ("&a a: 1\n*a : 2", Code::Unsupported),
        ("a: !x 1", Code::Unsupported),
        ("a: 1\n---\nb: 1", Code::Unsupported),
        ("a: { <<: 1 }", Code::WrongType),
        ("a: ${NONE}", Code::UnsetVariable),
        ("a: ${", Code::Expansion),
        ("a: ${A-B}", Code::Expansion),
        ("a: ${}", Code::Expansion),
    ] {
        let (_, problems) = tree(text);
        assert!(
            problems.iter().any(|problem| problem.code == code),
            "{text}: {problems:?}"
        );
    }
}

#[test]
fn places_are_those_of_the_text() {
    let text = "ü: x\nlist:\n  - { name: web }\n";
    let (root, _) = tree(text);
    let Some(Node {
        kind: Kind::Mapping(entries),
        ..
    }) = &root
    else {
        panic!("{root:?}")
    };
    let of = |span: Span| text.get(span.start as usize..span.end as usize).unwrap();
    assert_eq!(of(entries[0].0.span), "ü");
    assert_eq!(of(entries[0].1.span), "x");
    let Kind::Sequence(items) = &entries[1].1.kind else {
        panic!("{root:?}")
    };
    assert_eq!(of(items[0].span), "{ name: web }");
}

#[test]
fn depth_is_counted_through_aliases() {
    let half = format!("{}{}", "[".repeat(DEPTH / 2), "]".repeat(DEPTH / 2));
    let deep = format!(
        "a: &a {half}\nb: {}*a{}",
        "[".repeat(DEPTH / 2),
        "]".repeat(DEPTH / 2)
    );
    assert!(
        tree(&deep)
            .1
            .iter()
            .any(|problem| problem.code == Code::Budget)
    );
    let flat = format!("a: &a {half}\nb: [*a]");
    assert!(tree(&flat).1.is_empty());
}

#[test]
fn large_variables_and_many_texts_are_bounded() {
    let source = Arc::new(Source {
        name: String::new(),
        text: format!("[{}]", "'${X}', ".repeat(1000)),
    });
    let (_, problems) = read(&source, &|_| Some("x".repeat(1 << 20)));
    assert!(problems.iter().any(|problem| problem.code == Code::Budget));
}
