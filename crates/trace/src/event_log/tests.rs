//! Tests of the reader and the writer.

use super::*;
use crate::event::{Details, Gap, OpenFd, Opened, Tid};
use crate::stack::Stacks;

fn written(events: &[Event], stacks: &Stacks) -> Vec<u8> {
    let mut writer = EventWriter::new(Vec::new()).unwrap();
    for event in events {
        writer.write(event, stacks).unwrap();
    }
    writer.into_inner()
}

fn read(lines: &[u8], stacks: &mut Stacks) -> Result<Vec<Event>, LogError> {
    let mut reader = EventReader::new(lines);
    let mut events = Vec::new();
    while let Some(event) = reader.next_event(stacks)? {
        events.push(event);
    }
    Ok(events)
}

fn failure(lines: &str) -> String {
    read(lines.as_bytes(), &mut Stacks::new()).unwrap_err().to_string()
}

/// One event of each kind, and their stacks.
fn all_kinds() -> (Vec<Event>, Stacks) {
    let mut stacks = Stacks::new();
    let module = Module { identity: (1, 2), modified_ns: 3, path: "/bin/\u{1b}a".into() };
    let module = stacks.module(module);
    let script = ScriptFrame { function: "f".into(), file: "a.py".into(), line: 7 };
    let script = stacks.script(script);
    let native = Frame::File { module, offset: u64::MAX, is_guessed: true };
    let generated = Frame::Generated { process: 4, address: 5 };
    let one = stacks.intern(&[native, script]);
    let two = stacks.intern(&[generated, native]);
    let details =
        Details { kind: echown_fd::kind::PIPE, path: Some("p".into()), ..Details::default() };
    let fd = OpenFd {
        number: 3,
        link: "pipe:[9]".into(),
        is_cloexec: true,
        details: Some(Box::new(details)),
    };
    let open = vec![fd.clone()];
    let opened = Opened {
        call: "pipe2",
        fds: open.clone(),
        duplicate_of: Some(1),
        used: Some(2),
        stack: one,
    };
    let program = String::from("/bin/a\nb");
    let whats = vec![
        What::Started { program: program.clone(), open: open.clone() },
        What::Created { child: Tid(9), is_thread: true, shares_files: false },
        What::Executed {
            former: Tid(9),
            program,
            open: open.clone(),
            mentioned: vec![3],
            hinted: vec![4],
        },
        What::Named { name: "n\"".into() },
        What::Opened(opened),
        What::Closed { number: 3, error: Some(9), is_quarantined: true, stack: two },
        What::Freed { number: 3 },
        What::ClosedRange { first: 3, last: u32::MAX, sets_cloexec: true, stack: StackId::NONE },
        What::CloexecSet { number: 3, is_set: true },
        What::FilesUnshared,
        What::Used { number: 3 },
        What::UsedClosed { call: "read", number: 3, stack: two },
        What::Ending { open: Some(open), status: 256 },
        What::Ending { open: None, status: 9 },
        What::Ended,
        What::CoverageReduced(Gap::IoUring),
    ];
    let event = |(index, what)| Event { time_ns: index as u64, task: Tid(1), what };
    (whats.into_iter().enumerate().map(event).collect(), stacks)
}

#[test]
fn every_kind_of_event_is_read_as_it_was_written() {
    let (events, stacks) = all_kinds();
    let lines = written(&events, &stacks);
    let mut found = Stacks::new();
    assert_eq!(read(&lines, &mut found).unwrap(), events);
    for id in 0..3 {
        assert_eq!(found.frames(StackId(id)), stacks.frames(StackId(id)));
    }
    assert_eq!(lines.iter().filter(|byte| **byte == b'\n').count(), 1 + events.len() + 4);
}

#[test]
fn the_numbers_of_stacks_are_those_of_the_reader() {
    let (events, stacks) = all_kinds();
    let lines = written(&events[11..12], &stacks);
    let mut found = Stacks::new();
    let other = found.intern(&[Frame::Generated { process: 1, address: 1 }]);
    let events = read(&lines, &mut found).unwrap();
    let What::UsedClosed { stack, .. } = events[0].what else { panic!("{events:?}") };
    assert_ne!(stack, other);
    assert_eq!(found.frames(stack).len(), 2);
}

#[test]
fn events_that_end_in_the_middle_of_a_line_are_read_up_to_there() {
    let (events, stacks) = all_kinds();
    let lines = written(&events, &stacks);
    let cut = &lines[..lines.len() - 3];
    assert_eq!(read(cut, &mut Stacks::new()).unwrap(), events[..events.len() - 1]);
    for end in 0..lines.len() {
        let _ = read(&lines[..end], &mut Stacks::new());
    }
}

#[test]
fn damaged_lines_are_named_by_their_number() {
    assert_eq!(
        failure("{\"format\":1}\n{\"event\":{\"time_ns\":1,\"task\":1,\"what\":\"no\"}}\n")
            .split(", expected")
            .next()
            .unwrap(),
        "failed to read events: line 2 is damaged: unknown variant `no`"
    );
    assert_eq!(
        failure("{\"format\":2}\n"),
        "failed to read events: the format is 2, and this program reads 1"
    );
    for lines in ["", "x\n", "{\"event\":1}\n", "{\"format\":1}"] {
        assert_eq!(failure(lines), "failed to read events: the first line is not `{\"format\":1}`");
    }
    assert_eq!(
        failure("{\"format\":1}\n{\"stack\":[1,[{\"Script\":4}]]}\n"),
        "failed to read events: line 2 refers to a stack, module or function that no line before it \
         defines"
    );
}
