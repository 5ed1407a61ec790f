//! Memory limits: a server accepts as many clients as fit, rejects the others, and continues.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use echown::pool::Pool;

use super::broadcast::frame;
use super::server::{Server, serve};
use crate::common::poll;

/// Every style, with a message that it echoes.
fn styles() -> [(&'static str, Vec<u8>); 4] {
    [
        ("echo", b"hello\n".to_vec()),
        ("staged", b"hello\n".to_vec()),
        ("callback", b"hello\n".to_vec()),
        ("broadcast", frame(b"hello")),
    ]
}

/// A server that a wrapper starts, such as `prlimit --as=N`, in a style.
fn under(wrapper: &[&str], style: &str, arguments: &[&str]) -> Server {
    let program = serve(&["127.0.0.1:0"], &["--style", style]);
    let mut command = Command::new(wrapper[0]);
    command.args(&wrapper[1..]).arg(program.get_program()).args(program.get_args());
    command.args(arguments);
    Server::run(&mut command, 1)
}

/// Whether a new client is served; otherwise it was closed with nothing sent.
fn is_served(server: &Server, message: &[u8]) -> Option<TcpStream> {
    let mut client = server.connect();
    // The connection of a rejected client may be reset at any point; no reaction would be a hang.
    let mut first = [0];
    match client.write_all(message).and_then(|()| client.read(&mut first)) {
        Ok(1) => Some(client),
        Ok(_) => None,
        Err(error) => {
            let expected = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
            assert!(expected.contains(&error.kind()), "neither served nor rejected: {error}");
            None
        }
    }
}

/// Twice as many clients as the server's limit: each is served or rejected. Then they send as much
/// as they can and read nothing, and the server still serves and can be stopped.
fn assert_fills_and_refuses(mut server: Server, (style, message): (&str, &[u8]), limit: &str) {
    let log = server.lines().join("\n");
    let fit = log.split("is lowered to ").nth(1).and_then(|rest| rest.split(':').next());
    let fit: usize = fit.unwrap_or_else(|| panic!("not lowered: {log}")).parse().unwrap();
    assert!(log.contains(limit) && log.contains("a connection may take "), "{log}");
    assert!((2..2000).contains(&fit), "{log}");
    let inside: Vec<TcpStream> = (0..2 * fit).filter_map(|_| is_served(&server, message)).collect();
    assert_eq!(inside.len(), fit, "the reserved memory is enough for all clients up to the limit");
    // In few frames, because each of them is sent to all clients.
    let flood = match style {
        "broadcast" => frame(&[7; 8000]).repeat(24),
        _ => message.repeat(32 * 1024),
    };
    for mut client in &inside {
        client.set_nonblocking(true).unwrap();
        for _ in 0..8 {
            // Full, or disconnected for reading nothing.
            let _ = client.write(&flood);
        }
    }
    drop(inside);
    server.wait_for("a place", |server| is_served(server, message).is_some());
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0), "{lines:#?}");
    let log = lines.join("\n");
    assert!(!log.contains("panicked"), "{log}");
    let has_budget = log.contains("frames of all clients together may take ");
    assert_eq!(has_budget, style == "broadcast", "{log}");
}

#[test]
fn under_an_address_space_limit_clients_are_served_or_rejected() {
    for backtrace in ["0", "1"] {
        for (style, message) in styles() {
            let variable = format!("RUST_BACKTRACE={backtrace}");
            let wrapper = ["env", &variable, "prlimit", "--as=160000000"];
            let server = under(&wrapper, style, &["--max-connections", "20000"]);
            assert_fills_and_refuses(
                server,
                (style, &message),
                "RLIMIT_AS is 160000000, enough for ",
            );
        }
    }
}

#[test]
fn under_a_data_limit_clients_are_served_or_rejected() {
    let server = under(&["prlimit", "--data=60000000"], "echo", &["--max-connections", "20000"]);
    assert_fills_and_refuses(server, ("echo", b"hello"), "RLIMIT_DATA is 60000000, enough for ");
}

#[test]
fn an_address_space_limit_raised_as_the_warning_states_is_enough() {
    let arguments = ["--max-connections", "300"];
    let mut server = under(&["prlimit", "--as=100000000"], "echo", &arguments);
    let log = server.lines().join("\n");
    let enough = log.split("`ulimit -v ").nth(1).and_then(|rest| rest.split('`').next());
    let enough: u64 = enough.unwrap_or_else(|| panic!("{log}")).parse().unwrap();
    let limit = format!("--as={}", enough * 1024);
    let mut server = under(&["prlimit", &limit], "echo", &arguments);
    assert!(!server.lines().join("\n").contains("is lowered"), "{:?}", server.seen);
    let inside: Vec<_> = (0..300).map(|_| is_served(&server, b"hello")).collect();
    assert!(inside.iter().all(Option::is_some));
}

/// A control group with a limit of memory, of either version; removed when dropped.
struct Group(PathBuf);

impl Group {
    /// `None` if there is no such controller, or if this user may not make one.
    fn new(name: &str, bytes: u64) -> Option<Group> {
        let name = format!("echown-{name}-{}", std::process::id());
        let tries =
            [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        tries.iter().find_map(|(parent, limit)| {
            let dir = Path::new(parent).join(&name);
            std::fs::create_dir(&dir).ok()?;
            let group = Group(dir);
            // Missing where the controller is not delegated to this place.
            let is_limited = group.0.join(limit).exists()
                && std::fs::write(group.0.join(limit), bytes.to_string()).is_ok();
            is_limited.then_some(group)
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its last process has been waited for, but the kernel may need a moment to account for it.
        let _ = poll(super::server::DEADLINE, || std::fs::remove_dir(&self.0).ok());
    }
}

#[test]
fn in_a_control_group_clients_are_served_or_rejected_without_an_oom_kill() {
    for (style, message) in styles() {
        let Some(group) = Group::new(style, 32 << 20) else {
            eprintln!("skipped: no control group with a limit of memory can be made here");
            return;
        };
        let enter = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", group.0.display());
        let wrapper = ["sh", "-c", &enter, "sh"];
        let server = under(&wrapper, style, &["--max-connections", "20000"]);
        assert_fills_and_refuses(
            server,
            (style, &message),
            "cgroup memory.max is 33554432, enough for ",
        );
    }
}

/// What clients do not read is kept, within the same limits.
#[test]
fn parked_clients_that_do_not_read_stay_within_the_limits_of_memory() {
    let arguments = ["--park", "--max-connections", "20000"];
    let server = under(&["prlimit", "--data=40000000"], "echo", &arguments);
    assert_fills_and_refuses(server, ("echo", b"hello"), "RLIMIT_DATA is 40000000, enough for ");
    let Some(group) = Group::new("parked", 32 << 20) else {
        eprintln!("skipped: no control group with a limit of memory can be made here");
        return;
    };
    let enter = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", group.0.display());
    let server = under(&["sh", "-c", &enter, "sh"], "echo", &arguments);
    assert_fills_and_refuses(server, ("echo", b"hello"), "cgroup memory.max is 33554432, enough");
}

/// Set in the child process that a test starts again.
const IN_CHILD: &str = "ECHOWN_TEST_MAPPINGS";

/// Other code takes nearly all memory mappings after the pool was made. Without a free mapping the
/// standard library aborts the process in a new thread, so this runs in its own process.
#[test]
fn a_pool_stops_growing_before_the_mappings_of_the_process_run_out() {
    let name = "memory::a_pool_stops_growing_before_the_mappings_of_the_process_run_out";
    if std::env::var_os(IN_CHILD).is_some() {
        return assert_refuses_without_mappings();
    }
    let max = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap_or_default();
    if max.trim().parse().is_ok_and(|max: u64| max > 300_000) {
        eprintln!("skipped: vm.max_map_count is {max}, too many to take all of them");
        return;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture"]).env(IN_CHILD, "1");
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), None, "it was aborted: {stderr}");
    assert!(output.status.success(), "{stderr}");
}

#[allow(unsafe_code, reason = "std cannot make mappings")]
fn assert_refuses_without_mappings() {
    const LEFT: usize = 400;
    let pool = Pool::new();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let ended = std::sync::Arc::new(std::sync::Mutex::new(ended));
    let grow = || {
        let ended = std::sync::Arc::clone(&ended);
        pool.spawn([], move || drop(ended.lock().map(|ended| ended.recv())))
    };
    let mut inside = vec![grow().expect("there are mappings")];
    let max = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap();
    let max: usize = max.trim().parse().unwrap();
    let page = rustix::param::page_size();
    let mapped = std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
    let bytes = (max - mapped - LEFT) * page;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping at an address that the kernel chooses; no other code uses it.
    let area = unsafe { libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0) };
    assert_ne!(area, libc::MAP_FAILED);
    for offset in (0..bytes).step_by(2 * page) {
        // SAFETY: within the mapping above. Every other page differs, so that each is a mapping.
        let changed = unsafe { libc::mprotect(area.byte_add(offset), page, libc::PROT_READ) };
        assert_eq!(changed, 0, "at {offset}: {}", std::io::Error::last_os_error());
    }
    let rejected = loop {
        match grow() {
            Ok(promise) => inside.push(promise),
            Err(rejected) => break rejected,
        }
        assert!(inside.len() < LEFT, "never rejected");
    };
    assert!(rejected.is_exhausted());
    assert!(rejected.to_string().contains("vm.max_map_count is "), "{rejected}");
    drop(end);
    for promise in inside {
        promise.join().unwrap();
    }
}

/// Each client sends the start of a frame of maximum length; no limit per client is reached.
#[test]
fn incomplete_frames_without_memory_close_only_their_clients() {
    let wrapper = ["prlimit", "--as=160000000"];
    let mut server = under(&wrapper, "broadcast", &["--max-connections", "20"]);
    let innocent = frame(b"innocent");
    let mut inside = is_served(&server, &innocent).expect("there is space");
    inside.read_exact(&mut vec![0; innocent.len() - 1]).unwrap();
    let begun = vec![7; 10 << 20];
    let greedy: Vec<TcpStream> = (0..12)
        .map(|_| {
            let mut client = server.connect();
            client.write_all(&(16_u64 << 20).to_be_bytes()).unwrap();
            // It may be closed already.
            let _ = client.write_all(&begun);
            client
        })
        .collect();
    server.wait_for_line("failed to allocate ");
    inside.write_all(&innocent).unwrap();
    inside.read_exact(&mut vec![0; innocent.len()]).expect("it is not disturbed");
    drop(greedy);
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0), "{lines:#?}");
    assert!(super::server::summary(&lines, " no_resources") > 0, "{lines:#?}");
}
