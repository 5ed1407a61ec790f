//! The tracer with real programs: what they do arrives as events, and they run as without it.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{self, ExitStatus};
use std::sync::Mutex;

use echown_trace::event::{Event, OpenFd, What};
use echown_trace::model::Model;
use echown_trace::stack::Stacks;
use echown_trace::tracer::{self, Command, Observer, Settings, StartError, Trace};

/// A tracer waits for every child of its process, so one runs at a time.
static ONE: Mutex<()> = Mutex::new(());

#[derive(Default)]
struct Events(Vec<Event>);

impl Observer for Events {
    fn event(&mut self, event: &Event, _: &Model, _: &Stacks) {
        self.0.push(event.clone());
    }
}

impl Events {
    fn opened<'a>(&'a self, call: &'a str) -> impl Iterator<Item = &'a OpenFd> {
        self.0.iter().flat_map(move |event| match &event.what {
            What::Opened(opened) if opened.call == call => &opened.fds[..],
            _ => &[],
        })
    }

    fn count(&self, is_it: impl Fn(&What) -> bool) -> usize {
        self.0.iter().filter(|event| is_it(&event.what)).count()
    }
}

fn command(arguments: &[&str]) -> Command {
    Command {
        program: arguments[0].into(),
        arguments: arguments[1..].iter().map(Into::into).collect(),
    }
}

fn run(arguments: &[&str], settings: &Settings) -> (Events, Trace) {
    let _one = ONE.lock().unwrap_or_else(|error| error.into_inner());
    let mut events = Events::default();
    let trace = tracer::run(&command(arguments), settings, &mut events).expect("it can be traced");
    assert_eq!(trace.model.coverage().mismatches.count, 0, "{:?}", trace.model.coverage());
    (events, trace)
}

fn shell(script: &str, settings: &Settings) -> (Events, Trace) {
    run(&["/bin/sh", "-c", script], settings)
}

/// A file of this test.
fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("echown-trace-{}-{name}", process::id()))
}

#[test]
fn what_a_shell_opens_and_closes_arrives_with_its_paths() {
    let (events, trace) = shell("exec 7</etc/passwd; exec 7<&-; exit 3", &Settings::default());
    assert_eq!(ExitStatus::from_raw(trace.status).code(), Some(3));
    assert!(events.opened("openat").any(|fd| fd.link == "/etc/passwd"));
    let closes = |what: &What| matches!(what, What::Closed { number: 7, error: None, .. });
    assert_eq!(events.count(closes), 1);
}

#[test]
fn a_pipeline_is_followed_through_all_of_its_processes() {
    let (events, trace) = shell("echo one | cat | cat >/dev/null", &Settings::default());
    assert_eq!(trace.status, 0);
    assert!(events.opened("pipe2").chain(events.opened("pipe")).count() >= 4);
    assert!(events.count(|what| matches!(what, What::Created { is_thread: false, .. })) >= 3);
    assert!(events.count(|what| matches!(what, What::Executed { .. })) >= 2);
    assert!(trace.model.coverage().checks >= 4, "{:?}", trace.model.coverage());
}

#[test]
fn a_command_that_a_signal_ends_has_its_status() {
    let (_, trace) = shell("kill -TERM $$", &Settings::default());
    assert_eq!(ExitStatus::from_raw(trace.status).signal(), Some(libc::SIGTERM));
    let (_, trace) = shell("trap 'exit 5' USR1; kill -USR1 $$; exit 6", &Settings::default());
    assert_eq!(ExitStatus::from_raw(trace.status).code(), Some(5));
}

#[test]
fn a_real_time_signal_reaches_its_handler() {
    let script = "trap 'exit 7' RTMIN; kill -RTMIN $$; exit 8";
    let (_, trace) = run(&["/bin/bash", "-c", script], &Settings::default());
    assert_eq!(ExitStatus::from_raw(trace.status).code(), Some(7));
}

#[test]
fn a_stopped_command_waits_and_goes_on() {
    // The subshell wakes its parent when it sees that it is stopped.
    let script = "parent=$$; \
                  (until grep -q 'State:.[tT]' /proc/$parent/status; do :; done; kill -CONT $parent) & \
                  kill -STOP $$; wait; exit 9";
    let (_, trace) = shell(script, &Settings::default());
    assert_eq!(ExitStatus::from_raw(trace.status).code(), Some(9));
}

#[test]
fn a_program_that_does_not_run_is_told_from_one_that_is_not_there() {
    let _one = ONE.lock().unwrap_or_else(|error| error.into_inner());
    let start = |program: &str| {
        tracer::run(&command(&[program]), &Settings::default(), &mut ()).expect_err(program)
    };
    assert!(matches!(start("no-such-program-at-all"), StartError::NotFound));
    assert!(matches!(start("/no/such/program"), StartError::NotFound));
    assert!(matches!(start(""), StartError::NotFound));
    assert!(matches!(start("/etc"), StartError::NotExecutable(_)));
    let text = scratch("text");
    fs::write(&text, "no program").unwrap();
    assert!(matches!(start(text.to_str().unwrap()), StartError::NotExecutable(_)));
    fs::remove_file(text).unwrap();
}

#[test]
fn the_quarantine_holds_the_last_numbers_and_the_program_does_not_notice() {
    let settings = Settings { quarantine: true, ..Settings::default() };
    let script = "i=0; while [ $i -lt 200 ]; do exec 7</etc/passwd; read -r x <&7; exec 7<&-; \
                  i=$((i + 1)); done; echo $x >&2; exec 7</etc/group; read -r x <&7; exit 4";
    let (events, trace) = run(&["/bin/sh", "-c", script], &settings);
    assert_eq!(ExitStatus::from_raw(trace.status).code(), Some(4));
    let held = |what: &What| matches!(what, What::Closed { is_quarantined: true, .. });
    assert!(events.count(held) > 64, "{}", events.count(held));
    assert!(events.count(|what| matches!(what, What::Freed { .. })) > 0);
}

#[test]
fn without_stacks_the_events_are_the_same() {
    let kinds = |settings: &Settings| {
        let (events, _) = shell("exec 7</etc/passwd; ls / | cat >/dev/null", settings);
        let numbers = events.0.into_iter().filter_map(|event| match event.what {
            What::Opened(opened) => {
                Some((opened.call, opened.fds.iter().map(|fd| fd.number).collect::<Vec<i32>>()))
            }
            What::Closed { number, .. } => Some(("close", vec![number])),
            _ => None,
        });
        let mut numbers: Vec<(&str, Vec<i32>)> = numbers.collect();
        // Two processes run at the same time.
        numbers.sort();
        numbers
    };
    let with = kinds(&Settings::default());
    assert_eq!(with, kinds(&Settings { stacks: false, ..Settings::default() }));
    assert_eq!(with, kinds(&Settings { check_uses: true, ..Settings::default() }));
}
