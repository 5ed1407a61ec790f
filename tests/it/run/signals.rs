//! Signals, and processes that outlive the command or the tracer.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::run;
use crate::common::temp_path::TempPath;
use crate::common::wait_until;

/// A shell that says `ready`, waits, and says which signal it got. It waits in short steps, because a
/// background process that is killed while it starts may not notice it.
const WAITS: &str = "\
trap 'echo terminated; exit 5' TERM
trap 'echo user; exit 6' USR1
echo ready
while :; do sleep 0.05; done
";

fn start(words: &[&str]) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child =
        run(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let lines = BufReader::new(child.stdout.take().unwrap());
    (child, lines)
}

fn line(lines: &mut impl BufRead) -> String {
    let mut line = String::new();
    lines.read_line(&mut line).expect("the pipe can be read");
    line.trim_end().to_owned()
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

fn exists(process: &str) -> bool {
    // A process whose parent has not waited for it is dead as well.
    let status = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    !status.is_empty() && !status.contains(") Z ")
}

#[test]
fn a_signal_to_the_tracer_is_passed_on_to_the_command() {
    for (signal, said, code) in [(Signal::TERM, "terminated", 5), (Signal::USR1, "user", 6)] {
        let (mut child, mut lines) = start(&["-q", "--", "sh", "-c", WAITS]);
        assert_eq!(line(&mut lines), "ready");
        kill_process(pid(&child), signal).unwrap();
        assert_eq!(line(&mut lines), said);
        assert_eq!(child.wait().unwrap().code(), Some(code));
    }
}

#[test]
fn the_processes_of_a_killed_tracer_are_killed() {
    let script = "sleep 1000 & echo $$ $!; wait";
    let (mut child, mut lines) = start(&["-q", "--", "sh", "-c", script]);
    let both = line(&mut lines);
    let processes: Vec<&str> = both.split(' ').collect();
    assert!(processes.len() == 2 && processes.iter().all(|it| exists(it)), "{both}");
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("both are gone", || !processes.iter().any(|it| exists(it)));
}

#[test]
fn a_stopped_command_continues_where_it_was() {
    let (mut child, mut lines) = start(&["-q", "--", "sh", "-c", "kill -STOP $$; echo on; exit 4"]);
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    // It may not have stopped yet when the first signal comes.
    wait_until("the command continues", || {
        let command = std::fs::read_to_string(&children).unwrap_or_default();
        if let Some(process) = command.trim().parse().ok().and_then(Pid::from_raw) {
            let _ = kill_process(process, Signal::CONT);
        }
        child.try_wait().unwrap().is_some()
    });
    assert_eq!(line(&mut lines), "on");
    assert_eq!(child.wait().unwrap().code(), Some(4));
}

#[test]
fn a_daemon_that_outlives_the_command_is_followed_to_its_end() {
    let fifo = TempPath::new("fifo");
    let status = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(status.success());
    // The daemon waits until the fifo has a writer, and inherits no stream.
    let script = format!("setsid sh -c 'read word < {}' > /dev/null 2>&1 & exit 9", fifo.text());
    let (mut child, _) = start(&["--", "sh", "-c", &script]);
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let notice = line(&mut stderr);
    assert!(
        notice.starts_with(
            "echown: the command has ended, and 1 process that it started still runs ("
        ),
        "{notice}"
    );
    assert!(child.try_wait().unwrap().is_none(), "it waits for the daemon");
    std::fs::write(&fifo, "word\n").unwrap();
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(9), "{rest}");
    assert!(rest.contains("`sh` exited with status 9: "), "{rest}");
}

#[test]
fn processes_that_outlive_the_command_are_ended_after_the_wait() {
    // The second one ignores SIGTERM.
    for left in ["sleep 600", "(trap '' TERM; exec sleep 600)"] {
        let script = format!("{left} & exit 3");
        let (mut child, _) = start(&["--wait", "100ms", "--", "sh", "-c", &script]);
        wait_until("it ends", || child.try_wait().unwrap().is_some());
        assert_eq!(child.wait().unwrap().code(), Some(3));
        let mut text = String::new();
        child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        let note = "note: 1 process still ran 100ms after the end of the command (--wait), and got SIGTERM: ";
        assert!(text.contains(note), "{text}");
        assert!(text.contains("`sh` exited with status 3: "), "{text}");
    }
}

#[test]
fn after_the_end_of_the_command_a_signal_goes_to_what_it_left() {
    let script = "setsid sleep 1000 > /dev/null 2>&1 & exit 0";
    let (mut child, _) = start(&["--", "sh", "-c", script]);
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    assert!(line(&mut stderr).contains("still runs"));
    kill_process(pid(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_signal_to_the_whole_group_ends_both() {
    use std::os::unix::process::CommandExt;
    let mut command = run(&["-q", "--", "sh", "-c", "echo ready; exec sleep 1000"]);
    let mut child = command.process_group(0).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    assert_eq!(line(&mut lines), "ready");
    kill_process_group(pid(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
}
