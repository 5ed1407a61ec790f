//! `echown picture`: recordings as SVG, as Mermaid diagrams and as text.

use std::fmt::Write as _;
use std::fs;
use std::process::Output;

use echown::events::svg::{self, Axis};
use echown::events::timeline::{Selection, Timeline};
use echown::events::{Kind, Line, TaskName, mermaid, text};
use roxmltree::Document;
use serde_json::json;

use super::server::echown;
use crate::common::temp_path::TempPath;

/// A recording of one descriptor that is given to a task, whose end closes it, with a leak.
fn recording(task: &str, peer: &str) -> String {
    let main = json!({"id": 1, "name": "main"});
    let child = json!({"id": 2, "name": task});
    let step = |time_ns: u64, event: &str, from: Option<&serde_json::Value>, to: Option<&_>| {
        let mut line = json!({
            "event": event, "time_ns": time_ns, "process": 7, "thread": 8, "resource": 17,
            "kind": "tcp stream", "number": 9, "table": 7, "generation": 1, "site": "src/x.rs:1:2",
        });
        if let Some(from) = from {
            line["from"] = from.clone();
        }
        if let Some(to) = to {
            line["to"] = serde_json::Value::clone(to);
        }
        line
    };
    let mut acquired = step(1_000_000_000, "acquired", None, Some(&main));
    acquired["peer"] = peer.into();
    let lines = [
        json!({"event": "recording", "schema_version": 1, "time_ns": 0, "program": task}),
        acquired,
        step(2_000_000_000, "given", Some(&main), Some(&child)),
        step(3_000_000_000, "finalized", Some(&child), None),
        json!({
            "event": "leaked", "time_ns": 3_100_000_000_u64, "process": 7, "code": "leak",
            "message": format!("task 2 `{task}` ended"), "task": child, "resources": [17],
        }),
        json!({"event": "end", "time_ns": 4_000_000_000_u64, "reason": "finished", "lost": 0}),
    ];
    lines.iter().fold(String::new(), |mut text, line| {
        writeln!(text, "{line}").unwrap();
        text
    })
}

fn picture(recording: &str, arguments: &[&str]) -> Output {
    let file = TempPath::new("recording.jsonl");
    fs::write(&*file, recording).unwrap();
    echown().args(["picture", file.text()]).args(arguments).output().unwrap()
}

#[track_caller]
fn drawn(recording: &str, arguments: &[&str]) -> String {
    let output = picture(recording, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn failure(recording: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let output = picture(recording, arguments);
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_recording_is_drawn_as_text_by_default() {
    let expected = "\
fd 9 tcp stream  ●─main──────▶─reader────×           !
● acquired   ▶ handed over   × closed   ! finding
! leak: task 2 `reader` ended
";
    assert_eq!(drawn(&recording("reader", "127.0.0.1:5"), &[]), expected);
}

#[test]
fn the_ending_of_the_output_chooses_the_format_and_the_file_is_replaced_as_a_whole() {
    let recording = recording("reader", "127.0.0.1:5");
    let folder = TempPath::folder("pictures");
    for (name, beginning) in
        [("a.svg", "<svg xmlns="), ("a.mmd", "sequenceDiagram\n"), ("a.txt", "fd 9 tcp")]
    {
        let path = folder.join(name);
        fs::write(&path, "old and longer ".repeat(10_000)).unwrap();
        assert_eq!(drawn(&recording, &["-o", path.to_str().unwrap()]), "");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(beginning), "{name}: {text}");
        assert!(!text.contains("old and longer"));
    }
    assert_eq!(fs::read_dir(&*folder).unwrap().count(), 3, "no temporary file is left");
    let (code, message) = failure(&recording, &["-o", "picture.png"]);
    assert_eq!(code, Some(2));
    assert!(message.contains("use .svg, .mmd or .txt, or add --format"), "{message}");
}

#[test]
fn the_picture_has_a_name_a_description_both_colour_schemes_and_no_outside_resource() {
    let svg = drawn(&recording("reader", "127.0.0.1:5"), &["--format", "svg"]);
    let document = Document::parse(&svg).unwrap();
    let root = document.root_element();
    assert_eq!((root.tag_name().name(), root.attribute("role")), ("svg", Some("img")));
    let child = |name| root.children().find(|it| it.has_tag_name(name)).and_then(|it| it.text());
    let text = |name| child(name).unwrap_or_default();
    assert_eq!(text(SVG_TITLE), "Who owned which descriptor: reader");
    let expected = "1 lane with 3 steps of 2 tasks; 0 open at the end; 1 finding.";
    assert_eq!(text(SVG_DESC), expected);
    assert!(text(SVG_STYLE).contains("@media (prefers-color-scheme: dark)"));
    for outside in ["href", "url(", "@import", "<script", "<image", "<foreignObject"] {
        assert!(!svg.contains(outside), "{outside}");
    }
}

const SVG: &str = "http://www.w3.org/2000/svg";
const SVG_TITLE: (&str, &str) = (SVG, "title");
const SVG_DESC: (&str, &str) = (SVG, "desc");
const SVG_STYLE: (&str, &str) = (SVG, "style");

/// The titles of all drawn elements with a class.
fn titles(svg: &str, class: &str) -> Vec<String> {
    let document = Document::parse(svg).unwrap();
    let has_class = |node: &roxmltree::Node<'_, '_>| {
        node.attribute("class").is_some_and(|it| it.split(' ').any(|it| it == class))
    };
    let title = |node: roxmltree::Node<'_, '_>| {
        let title = node.children().find(|it| it.has_tag_name(SVG_TITLE))?;
        title.text().map(str::to_owned)
    };
    document.descendants().filter(has_class).filter_map(title).collect()
}

#[test]
fn spans_and_marks_say_who_what_where_and_when() {
    let recording = recording("reader", "127.0.0.1:5");
    let svg = drawn(&recording, &["--format", "svg"]);
    let leaked = "tcp stream 127.0.0.1:5: owned by task 2 `reader`, leaked for 1 s (resource 17)";
    assert_eq!(titles(&svg, "leak"), [leaked]);
    assert_eq!(
        titles(&svg, "mark")[..2],
        [
            "acquired by task 1 `main`, at src/x.rs:1:2, after 1 s, thread 8",
            "given: task 1 `main` → task 2 `reader`, at src/x.rs:1:2, after 2 s, thread 8",
        ]
    );
    let closed = "finalized by task 2 `reader`, at src/x.rs:1:2, after 3 s, thread 8";
    assert_eq!(titles(&svg, "badcross"), [closed]);
    let svg = drawn(&recording, &["--format", "svg", "--axis", "order"]);
    let given = "given: task 1 `main` → task 2 `reader`, at src/x.rs:1:2";
    assert_eq!(titles(&svg, "mark")[1], given, "the order has no times");
}

#[test]
fn names_that_a_peer_chose_are_text_in_every_format() {
    let hostile = "</title></text><script>alert(1)</script>]]><!--\"' onload=\"x\" &lt; \u{202e}\
                   \u{1b}[31m\nt0->>t1: x; end";
    let recording = recording(hostile, hostile);
    let svg = drawn(&recording, &["--format", "svg"]);
    let document = Document::parse(&svg).unwrap();
    let known = ["svg", "title", "desc", "style", "rect", "text", "line", "g", "path"];
    for node in document.descendants().filter(roxmltree::Node::is_element) {
        assert!(known.contains(&node.tag_name().name()), "{:?}", node.tag_name());
        for attribute in node.attributes() {
            assert!(!attribute.name().starts_with("on"), "{attribute:?}");
        }
    }
    let shown = "</title></text><script>alert(1)</script>]]><!--\"' onload=\"x\" &lt; \\u{202e}\\x1b\
                 [31m\\nt0->>t1: x; end";
    assert!(titles(&svg, "leak")[0].contains(shown), "{:?}", titles(&svg, "leak"));
    let calm = self::recording("reader", "127.0.0.1:5");
    for format in ["mermaid", "text"] {
        let lines = |recording| {
            let text = drawn(recording, &["--format", format]);
            assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text}");
            text.lines().filter(|line| !line.contains(" = task ")).count()
        };
        assert_eq!(lines(&recording), lines(&calm), "{format}");
    }
    let diagram = drawn(&recording, &["--format", "mermaid"]);
    assert!(!diagram.contains("<script") && !diagram.contains("x; end"), "{diagram}");
}

#[test]
fn a_selection_that_matches_nothing_names_what_there_is() {
    let recording = recording("reader", "127.0.0.1:5");
    let svg = drawn(&recording, &["--format", "svg", "--from", "2500ms", "--to", "3500ms"]);
    assert!(titles(&svg, "mark").iter().all(|title| !title.starts_with("acquired by")), "{svg}");
    assert!(drawn(&recording, &["--task", "read", "--resource", "17"]).contains("reader"));
    for arguments in [&["--task", "writer"][..], &["--resource", "4"], &["--from", "1h"]] {
        let (code, message) = failure(&recording, arguments);
        assert_eq!(code, Some(1), "{message}");
        assert!(
            message.contains("takes 4.000 s; the owners in it are `main`, `reader`"),
            "{message}"
        );
    }
    let (code, message) = failure(&recording, &["--from", "3s", "--to", "2s"]);
    assert_eq!(code, Some(2));
    assert!(message.contains("--from must be earlier than --to"), "{message}");
}

#[test]
fn errors_say_what_failed_why_and_what_to_do() {
    let whole = recording("reader", "127.0.0.1:5");
    for (recording, expected) in [
        ("", "its first line is not"),
        ("hello\n", "`echown serve --record FILE` writes one"),
        (&*whole.replace("\"given\"", "given"), "line 3 is damaged"),
        (&*whole.replace("\"given\"", "given"), "`head -n 2` keeps what comes before"),
        (&*whole.replace("\"schema_version\":1", "\"schema_version\":9"), "schema version 9"),
        (whole.lines().next().unwrap(), "nothing to draw: the recording has no step"),
    ] {
        let (code, message) = failure(recording, &[]);
        assert_eq!(code, Some(1), "{message}");
        assert!(message.starts_with("echown: ") && message.contains(expected), "{message}");
    }
    let output = echown().args(["picture", "/nonexistent/x"]).output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(message.contains("failed to open the recording /nonexistent/x"), "{message}");
    let (code, message) = failure(&whole, &["-o", "/nonexistent/x.svg"]);
    assert_eq!(code, Some(1));
    assert!(message.contains("failed to write the picture to /nonexistent/x.svg"), "{message}");
}

#[test]
fn a_large_recording_is_drawn_within_limits() {
    let mut text = "{\"event\":\"recording\",\"schema_version\":1,\"time_ns\":0}\n".to_owned();
    for event in 0..100_000_u64 {
        let kind = ["acquired", "given", "released", "task_started"][event as usize % 4];
        let (resource, number, time_ns) = (event / 4, event / 4 % 500, event * 10_000);
        let owner = "{\"id\":1,\"name\":\"main\"}";
        writeln!(
            text,
            "{{\"event\":\"{kind}\",\"time_ns\":{time_ns},\"process\":1,\"resource\":{resource},\
             \"number\":{number},\"kind\":\"pipe\",\"from\":{owner},\"to\":{owner},\"task\":{owner}}}"
        )
        .unwrap();
    }
    let svg = drawn(&text, &["--format", "svg"]);
    assert!(svg.len() < 8 << 20, "{} bytes", svg.len());
    assert!(svg.contains("400 lanes not drawn"));
    Document::parse(&svg).unwrap();
    let diagram = drawn(&text, &["--format", "mermaid"]);
    assert!(diagram.contains("not shown: 74800 more steps"), "{diagram}");
}

/// A random line about one of few tasks, resources and numbers, at a random time.
fn random_line(random: &mut fastrand::Rng) -> Line {
    use Kind::{
        Acquired, Cancelled, Claimed, Declared, Disowned, Dropped, End, Finalized, Given,
        Inherited, Leaked, Live, Lost, Offered, Parked, Rejoined, Released, Replaced, Returned,
        Split, TaskCancelled, TaskEnded, TaskStarted, Transferred, Unparked, Violation,
    };
    let kinds = [
        Acquired,
        Acquired,
        Given,
        Transferred,
        Offered,
        Claimed,
        Inherited,
        Parked,
        Unparked,
        Split,
        Rejoined,
        Returned,
        Disowned,
        Released,
        Dropped,
        Finalized,
        Replaced,
        Cancelled,
        TaskStarted,
        TaskCancelled,
        TaskEnded,
        Leaked,
        Violation,
        Declared,
        Lost,
        Live,
        End,
    ];
    let names =
        ["", "main", "名前 <b>", "a name that is longer than the others and is cut somewhere"];
    let bits = random.u32(..40);
    let mut line = Line::new(kinds[random.usize(..kinds.len())], random.u64(..1 << bits));
    let mut task = || {
        let id = random.u64(..6);
        (id > 0).then(|| TaskName { id, name: names[id as usize % names.len()].into() })
    };
    (line.from, line.to, line.task, line.parent) = (task(), task(), task(), task());
    let resource = random.u64(..12);
    line.resource = Some(resource);
    line.number = random.bool().then(|| random.i32(..4));
    line.half_of = (resource > 8).then(|| random.u64(..12));
    line.half = random.bool().then(|| if random.bool() { "read".into() } else { "write".into() });
    line.process = Some(random.u32(..2));
    line.generation = random.bool().then(|| random.u64(..3));
    line.resources = random.bool().then(|| vec![random.u64(..12), random.u64(..12)]);
    line.replayed = (random.u32(..10) == 0).then_some(true);
    line.message = random.bool().then(|| names[random.usize(..names.len())].to_owned());
    line.peer = random.bool().then(|| names[random.usize(..names.len())].to_owned());
    line
}

#[test]
fn every_order_of_any_lines_can_be_drawn() {
    for seed in 0..1000 {
        let random = &mut fastrand::Rng::with_seed(seed);
        let count = random.usize(..60);
        let lines: Vec<_> = (0..count).map(|_| random_line(random)).collect();
        let mut timeline = Timeline::of(&lines);
        if random.bool() {
            timeline = timeline.select(&Selection {
                tasks: if random.bool() { vec!["main".into()] } else { Vec::new() },
                resources: if random.bool() { vec![1, 2, 3] } else { Vec::new() },
                from_ns: random.bool().then(|| random.u64(..1 << 30)),
                to_ns: random.bool().then(|| random.u64(..1 << 40)),
            });
        }
        for (_, resource) in timeline.resources() {
            assert!(resource.spans.is_sorted_by(|one, next| one.to.time_ns <= next.from.time_ns));
        }
        for axis in [Axis::Time, Axis::Order] {
            let options =
                svg::Options { axis, width: random.u32(..2000), lanes: random.usize(..9) };
            let picture = svg::render(&timeline, &options);
            Document::parse(&picture).unwrap_or_else(|error| panic!("{seed}: {error}: {picture}"));
            assert!(!picture.contains("NaN") && !picture.contains("inf\""), "{seed}: {picture}");
        }
        assert!(mermaid::render(&timeline).starts_with("sequenceDiagram\n"));
        let columns = random.usize(..200);
        let shown = text::render(&timeline, &text::Options { columns, ascii: random.bool() });
        let widest = shown.lines().map(|line| line.chars().count()).max().unwrap_or_default();
        assert!(widest <= columns.max(40), "{seed}: {shown}");
    }
}
