//! Names chosen by programs and users are escaped in reports and tables.

use std::io;
use std::thread;

use echown::ownership::graph::{Node, TrackedArc};
use echown::ownership::{Report, Suppression};
use echown::report::{Colours, Sources};

use crate::common::Fixture;

const HOSTILE: &str = "a\u{1b}[2J\nleak: forged\u{202e}\u{85}\u{200b}\\b";
const ESCAPED: &str = r"a\x1b[2J\nleak: forged\u{202e}\u{85}\u{200b}\b";

/// Asserts that a printed text has no control characters except newlines.
#[track_caller]
fn assert_printable(what: &str, text: &str) {
    let hidden = |c: char| c != '\n' && c.is_control() || "\u{202e}\u{200b}".contains(c);
    assert!(!text.contains(hidden), "{what}: {text:?}");
    assert!(!text.contains("\nleak: forged"), "{what} has a forged line: {text:?}");
}

#[track_caller]
fn assert_escaped(what: &str, text: &str) {
    assert_printable(what, text);
    assert!(text.contains(ESCAPED), "{what}: {text}");
}

#[test]
fn hostile_names_of_tasks_and_threads_are_escaped_in_every_format() {
    let fixture = Fixture::new();
    let registry = fixture.registry.clone();
    let named = thread::Builder::new().name(HOSTILE.to_owned());
    let ran = named.spawn(move || {
        let failure = registry.run(HOSTILE, || std::mem::forget(registry.own("kept"))).unwrap_err();
        let table = registry.run(HOSTILE, || {
            let _kept = registry.own("kept").unwrap();
            registry.snapshot()
        });
        (failure.to_string(), table.unwrap())
    });
    let (failure, table) = ran.unwrap().join().unwrap();
    assert_escaped("the failure", &failure);
    assert_escaped("the custody table", &table.to_string());
    assert_escaped("its name in the table", &table.tasks.last().unwrap().task.name);
    let reports = fixture.reports();
    let Report::Leak(leak) = &reports[0] else { panic!("{reports:?}") };
    assert_eq!(&*leak.thread, ESCAPED);
    assert_escaped("the report", &reports[0].to_string());
    assert_escaped(
        "the report with sources",
        &reports[0].render(&Sources::nearby(), Colours::Never),
    );
    assert_escaped("the report as JSON", &reports[0].to_json().replace("\\\\", "\\"));
}

#[test]
fn a_finalizers_error_a_panic_and_a_declaration_are_escaped() {
    let fixture = Fixture::new();
    let registry = &fixture.registry;
    fixture.root(|| {
        drop(registry.own_with("wrong", |_| Err(io::Error::other(HOSTILE))));
        let declared = std::fs::File::open("/dev/null").unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&declared);
        registry.declare_external(number, HOSTILE, HOSTILE);
        assert_escaped("a declaration", &registry.snapshot().to_string());
        registry.forget_external(number);
    });
    assert_escaped("a finalizer's error", &fixture.reports()[0].to_string());
    let panicked = registry.run("root", || -> () { panic!("{HOSTILE}") }).unwrap_err();
    assert_escaped("a panic", &panicked.to_string());
}

#[test]
fn hostile_names_in_the_reference_graph_are_escaped() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let node = Node::new(HOSTILE);
        assert_escaped("a node", &node.label().to_string());
        let _kept = TrackedArc::new(node, ());
        let drawn = fixture.registry.graph().to_mermaid();
        assert_escaped("the drawing", &drawn);
    });
}

#[test]
fn the_reason_of_a_suppression_is_escaped() {
    let known = Suppression::because(HOSTILE).path(HOSTILE);
    assert_escaped("a suppression", &known.to_string());
    let fixture = Fixture::with(|settings| settings.suppress(known));
    assert_escaped("the verdict", &fixture.registry.summary().to_string());
}
