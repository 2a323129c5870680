//! Trees keep the place and the text of everything; paths name places in them.

use std::sync::Arc;

use crate::experiment::path::{FieldPath, replaced};
use crate::experiment::problem::{Found, Span, nearest};
use crate::experiment::tree::{Kind, Node, parse};

fn tree(text: &str) -> Arc<Node> {
    let mut found = Found::default();
    let tree = parse(0, text, 0, &mut found).filter(|_| found.is_empty());
    tree.unwrap_or_else(|| panic!("`{text}` is sound RON"))
}

/// What a node's place holds is the node, all the way down.
fn check_places(text: &str, node: &Node) {
    let there = &text[node.span.start..node.span.end];
    assert_eq!(tree(there).to_string(), node.to_string());
    match &node.kind {
        Kind::Record { name, fields, items } => {
            assert!(name.as_ref().is_none_or(|name| there.starts_with(name.as_str())));
            for field in fields {
                assert_eq!(&text[field.span.start..field.span.end], field.name);
                check_places(text, &field.value);
            }
            items.iter().for_each(|item| check_places(text, item));
        }
        Kind::List(items) => items.iter().for_each(|item| check_places(text, item)),
        Kind::Map(pairs) => pairs.iter().for_each(|(key, value)| {
            check_places(text, key);
            check_places(text, value);
        }),
        Kind::Text(_) | Kind::Number { .. } | Kind::Bool(_) | Kind::Other(_) => {}
    }
}

#[test]
fn every_node_knows_its_place() {
    let texts = [
        include_str!("../../../experiments/smoke.ron"),
        include_str!("../../../experiments/projection_head.ron"),
        "A( /* ( */ b : \"é \\\" )\", // )\n c: r#\"x\"y\"#, d: (1, -0x1F, .5, 1_0e-3, ()), e: {\"k\": None, 'x': Some(true)}, f: [[], B ()])",
    ];
    for text in texts {
        check_places(text, &tree(text));
    }
}

#[test]
fn a_tree_prints_as_normalised_text() {
    let check = |text: &str, expected: &str| assert_eq!(tree(text).to_string(), expected);
    check("Linear( per : 0x100 , )", "Linear(per: 0x100)");
    check("[ 1 ,2,/* c */ 3 , ]", "[1, 2, 3]");
    check("( a: Some( None ), b: () )", "(a: Some(None), b: ())");
    check("{ \"b\" : true , \"a\" : -1.50 }", "{\"b\": true, \"a\": -1.50}");
    check(" Cosine /* last */", "Cosine");
    check("A() // last", "A");
}

#[test]
fn paths_have_one_spelling() {
    for text in ["train", "train.batch", "evaluate[0].k", "a.b_2[10][3].c"] {
        assert_eq!(text.parse::<FieldPath>().map(|path| path.to_string()).as_deref(), Ok(text));
    }
    for text in [
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "[0]",
        "a[",
        "a[]",
        "a[-1]",
        "a[+1]",
        "a[0]b",
        "a b",
        "1a",
        "a[99999999999999999999]",
    ] {
        assert!(text.parse::<FieldPath>().is_err(), "{text}");
    }
}

#[test]
fn a_path_replaces_what_it_names_and_nothing_else() {
    let check = |text: &str, path: &str, expected: Result<&str, &str>| {
        let path: FieldPath = path.parse().expect("a path");
        let span = Span { source: 0, start: 0, end: 0 };
        let found = replaced(&tree(text), &path.0, 0, &tree("X"), span);
        let found = found.map(|node| node.to_string()).map_err(|error| error.to_string());
        assert_eq!(found.as_deref().map_err(String::as_str), expected, "{path}");
    };
    check("A(b: 1, c: 2)", "b", Ok("A(b: X, c: 2)"));
    check("A(b: (c: [1, D(e: 2)]))", "b.c[1].e", Ok("A(b: (c: [1, D(e: X)]))"));
    check("A(b: C)", "b.d", Ok("A(b: C(d: X))"));
    check("A", "b.c", Ok("A(b: (c: X))"));
    check("A(b: Epochs(1))", "b[0]", Ok("A(b: Epochs(X))"));
    check(
        "A(train: (learning_rate: 1))",
        "train.learning_rate.scaling",
        Ok("A(train: (learning_rate: (base: 1, scaling: X)))"),
    );
    check("A(b: [1])", "b[1]", Err("there is no element 1 in `b`, which has 1"));
    check("A(b: [1])", "b.c", Err("there is no field `c` in `b`, which is `[1]`"));
    check("A(b: 1)", "b[0]", Err("there is no element 0 in `b`, which is `1`"));
    check("A", "b[0]", Err("there is no element 0 in `b`, which is left out"));
}

#[test]
fn only_near_names_are_suggested() {
    let check = |found: &str, expected: Option<&str>| {
        assert_eq!(nearest(found, &["batch", "temperature", "k", "p", "Knn", "momentum"]), expected, "{found}");
    };
    check("bacth", Some("batch"));
    check("Batch", Some("batch"));
    check("temprature", Some("temperature"));
    check("Knnn", Some("Knn"));
    check("Kn", None);
    check("q", None);
    check("learning_rate", None);
    check("", None);
}
