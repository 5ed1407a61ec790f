//! Recordings of made-up events.

use std::io::BufReader;
use std::time::Instant;

use echown_trace::event::{Details, OpenFd, Opened, Tid};
use echown_trace::stack::{Frame, Module};

use super::*;
use crate::events::reader::Reader;
use crate::events::timeline::Timeline;
use crate::ownership::Registry;

fn fd(number: i32, link: &str) -> OpenFd {
    OpenFd { number, link: link.to_owned(), is_cloexec: false, details: None }
}

fn opened(call: &'static str, fds: Vec<OpenFd>, stack: StackId) -> What {
    What::Opened(Opened { call, fds, duplicate_of: None, used: None, stack })
}

fn closed(number: i32) -> What {
    What::Closed { number, error: None, is_quarantined: false, stack: StackId::NONE }
}

fn forked(child: i32) -> What {
    What::Created { child: Tid(child), is_thread: false, shares_files: false }
}

fn thread(child: i32) -> What {
    What::Created { child: Tid(child), is_thread: true, shares_files: true }
}

/// `ls` runs in the place of a thread's program, and only its standard output is open.
fn executed(former: i32) -> What {
    What::Executed {
        former: Tid(former),
        program: "/bin/ls".to_owned(),
        open: vec![fd(1, "pipe:[1]")],
        mentioned: Vec::new(),
        hinted: Vec::new(),
    }
}

/// Events at one microsecond each.
fn events(list: Vec<(i32, What)>) -> Vec<Event> {
    let timed = |(index, (task, what)): (usize, (i32, What))| Event {
        time_ns: index as u64 * 1000,
        task: Tid(task),
        what,
    };
    list.into_iter().enumerate().map(timed).collect()
}

/// The steps of the lines, as `EVENT NUMBER CALL FROM->TO`.
fn steps(events: Vec<(i32, What)>) -> Vec<String> {
    let mut encoder = Encoder::default();
    let lines = self::events(events).into_iter().flat_map(|event| encoder.encode(&event));
    let lines = lines.filter(|(line, _)| line.event.is_step());
    let name = |task: &Option<crate::events::TaskName>| {
        task.as_ref().map(|task| task.name.to_string()).unwrap_or_default()
    };
    lines
        .map(|(line, _)| {
            let (number, call) = (line.number.unwrap(), line.call.as_deref().unwrap_or("-"));
            let (from, to) = (name(&line.from), name(&line.to));
            format!("{} {number} {call} {from}->{to}", line.event.as_str())
        })
        .collect()
}

fn started() -> (i32, What) {
    (7, What::Started { program: "/bin/sh".to_owned(), open: vec![fd(1, "pipe:[1]")] })
}

#[test]
fn a_fork_copies_and_an_exec_keeps_what_is_not_close_on_exec() {
    let mut private = fd(4, "/etc/hosts");
    private.is_cloexec = true;
    let steps = steps(vec![
        started(),
        (7, opened("openat", vec![private], StackId::NONE)),
        (7, forked(8)),
        (8, executed(8)),
        (8, What::Ended),
        (7, closed(4)),
        (7, What::Ended),
    ]);
    let expected = [
        "acquired 1 - ->sh 7",
        "acquired 4 openat ->sh 7",
        "acquired 1 fork ->sh 8",
        "acquired 4 fork ->sh 8",
        "given 1 execve sh 8->ls 8",
        "released 4 execve sh 8->",
        "finalized 1 exit ls 8->",
        "released 4 close sh 7->",
        "finalized 1 exit sh 7->",
    ];
    assert_eq!(steps, expected);
}

#[test]
fn a_thread_leaves_its_descriptors_to_its_process() {
    let steps = steps(vec![
        started(),
        (7, thread(9)),
        (9, What::Named { name: "wor\u{1b}ker".to_owned() }),
        (9, opened("socket", vec![fd(3, "socket:[5]")], StackId::NONE)),
        (9, What::Ended),
        (7, closed(3)),
    ]);
    let expected = [
        "acquired 1 - ->sh 7",
        "acquired 3 socket ->wor\\x1bker 9",
        "transferred 3 exit wor\\x1bker 9->sh 7",
        "released 3 close sh 7->",
    ];
    assert_eq!(steps, expected);
}

#[test]
fn an_exec_of_a_thread_ends_all_others_and_copies_a_shared_table() {
    let shared = What::Created { child: Tid(20), is_thread: false, shares_files: true };
    let steps = steps(vec![
        started(),
        (7, thread(9)),
        (7, shared),
        (7, executed(9)),
        (7, closed(1)),
        (20, closed(1)),
    ]);
    // The process that shared the table keeps it, and the new program gets a copy.
    assert_eq!(
        steps[1..],
        [
            "transferred 1 exit sh 7->sh 9",
            "transferred 1 unshare sh 9->sh 20",
            "acquired 1 unshare ->sh 9",
            "given 1 execve sh 9->ls 7",
            "released 1 close ls 7->",
            "released 1 close sh 20->",
        ]
    );
}

#[test]
fn what_replaces_a_number_closes_it_and_ranges_close_what_is_open() {
    let dup = What::Opened(Opened {
        call: "dup2",
        fds: vec![fd(1, "/dev/null")],
        duplicate_of: Some(5),
        used: None,
        stack: StackId::NONE,
    });
    let range = |sets_cloexec| What::ClosedRange {
        first: 3,
        last: u32::MAX,
        sets_cloexec,
        stack: StackId::NONE,
    };
    let steps = steps(vec![
        started(),
        (7, opened("pipe2", vec![fd(5, ""), fd(6, "")], StackId::NONE)),
        (7, dup),
        (7, range(true)),
        (7, range(false)),
    ]);
    assert_eq!(
        steps[3..],
        [
            "released 1 dup2 sh 7->",
            "acquired 1 dup2 ->sh 7",
            "released 5 close_range sh 7->",
            "released 6 close_range sh 7->",
        ]
    );
}

/// A recording in a file, and what is read from it.
fn recorded(limit: usize, events: Vec<Event>, stacks: &Stacks, findings: Vec<Noted>) -> Vec<Line> {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("echown-{}-{number}.recording", std::process::id());
    let path = std::env::temp_dir().join(name);
    let registry = Registry::new();
    let _entered = registry.enter();
    let mut recorder = Recorder::create(&path, limit, "sh".to_owned()).unwrap();
    events.iter().for_each(|event| recorder.event(event, stacks));
    let frame = echown_report::StackFrame {
        function: "main".to_owned(),
        file: Some("a.c".to_owned()),
        line: 3,
        column: 4,
        is_own: true,
        ..Default::default()
    };
    recorder.finish(findings, &mut |_| vec![frame.clone()], Instant::now());
    assert_eq!(registry.finish().exit_code, 0);
    let file = std::fs::File::open(&path).unwrap();
    let bytes = file.metadata().unwrap().len();
    assert!(bytes <= limit as u64, "{bytes} of {limit} bytes");
    let lines = Reader::new(BufReader::new(file)).read_all().unwrap();
    std::fs::remove_file(path).unwrap();
    lines
}

#[test]
fn the_end_adds_places_names_addresses_and_findings() {
    let mut stacks = Stacks::new();
    let module =
        stacks.module(Module { identity: (1, 2), modified_ns: 0, path: "/bin/sh".to_owned() });
    let stack = stacks.intern(&[Frame::File { module, offset: 16, is_guessed: false }]);
    let socket = Details {
        kind: echown_fd::kind::TCP_STREAM,
        peer: Some("127.0.0.1:80".to_owned()),
        ..Details::default()
    };
    let at_end = OpenFd { details: Some(Box::new(socket)), ..fd(3, "socket:[5]") };
    let events = events(vec![
        started(),
        (7, opened("socket", vec![fd(3, "socket:[5]")], stack)),
        (7, What::Named { name: "later".to_owned() }),
        (7, What::Ending { open: Some(vec![at_end]), status: 0 }),
        (7, What::Ended),
    ]);
    let noted = |time_ns, is_leak, code| Noted {
        time_ns,
        process: 7,
        numbers: vec![3],
        is_leak,
        code,
        message: "a message".to_owned(),
        text: "a text".to_owned(),
    };
    let findings = vec![noted(u64::MAX, true, "leak"), noted(1_001, false, "double-close")];
    let lines = recorded(1 << 20, events, &stacks, findings);
    let acquired = lines.iter().find(|line| line.number == Some(3)).unwrap();
    assert_eq!(acquired.site.as_deref(), Some("a.c:3:4"));
    assert_eq!(acquired.stack.as_deref(), Some(&["main (a.c:3)".to_owned()][..]));
    assert_eq!(acquired.kind.as_deref(), Some("tcp stream"));
    assert_eq!(acquired.peer.as_deref(), Some("127.0.0.1:80"));
    assert_eq!(&*acquired.to.as_ref().unwrap().name, "later 7", "the last name counts");
    let kinds: Vec<Kind> = lines.iter().map(|line| line.event).collect();
    let at = |kind| kinds.iter().position(|it| *it == kind).unwrap();
    assert!(at(Kind::Violation) < at(Kind::Finalized), "{kinds:?}");
    let timeline = Timeline::of(&lines);
    assert!(timeline.is_complete);
    let of_socket = timeline.findings.iter().filter(|it| it.resources.len() == 1).count();
    assert_eq!(of_socket, 2, "both are about the socket");
    let last = lines.last().unwrap();
    assert_eq!((last.event, last.reason.as_deref()), (Kind::End, Some("finished")));
}

#[test]
fn the_limit_counts_places_and_findings_too() {
    let mut stacks = Stacks::new();
    let module =
        stacks.module(Module { identity: (1, 2), modified_ns: 0, path: "/bin/sh".to_owned() });
    let stack = stacks.intern(&[Frame::File { module, offset: 16, is_guessed: false }]);
    let mut list = vec![started()];
    for _ in 0..100 {
        list.push((7, opened("openat", vec![fd(3, "/a")], stack)));
        list.push((7, closed(3)));
    }
    let lines = recorded(8192, events(list), &stacks, Vec::new());
    let last = lines.last().unwrap();
    assert_eq!((last.event, last.reason.as_deref()), (Kind::End, Some("limit")));
}
