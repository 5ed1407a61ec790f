//! The server where `SO_COOKIE` is rejected, as under qemu-user, in gVisor and in sandboxes that allow
//! a list of socket options.

use std::io::{Read, Write};
use std::process::Command;

use super::server::{STYLES, Server, as_in_a_terminal, summary};
use crate::common::require_tool;

/// Installs a seccomp filter that makes `getsockopt(_, SOL_SOCKET, SO_COOKIE)` fail with the error of
/// the first argument, and executes the rest.
const UNDER_A_FILTER: &str = r#"
import ctypes, os, socket, struct, sys

getsockopt = {"x86_64": 55, "aarch64": 209}[os.uname().machine]
SO_COOKIE, LOAD, IF_NOT, RETURN, ALLOW, ERRNO = 57, 0x20, 0x15, 0x06, 0x7fff0000, 0x50000
steps = [(LOAD, 0, 0, 0), (IF_NOT, 0, 5, getsockopt), (LOAD, 0, 0, 24), (IF_NOT, 0, 3, socket.SOL_SOCKET),
    (LOAD, 0, 0, 32), (IF_NOT, 0, 1, SO_COOKIE), (RETURN, 0, 0, ERRNO | int(sys.argv[1])), (RETURN, 0, 0, ALLOW)]
code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
program = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(code)))
prctl = ctypes.CDLL(None, use_errno=True).prctl
prctl.argtypes = [ctypes.c_int] + 4 * [ctypes.c_ulong]
assert prctl(38, 1, 0, 0, 0) == 0 and prctl(22, 2, ctypes.addressof(program), 0, 0) == 0, ctypes.get_errno()
os.execv(sys.argv[2], sys.argv[2:])
"#;

/// `echown serve` under the filter; `None` if Python is missing.
fn start(error: i32, arguments: &[&str]) -> Option<Server> {
    let python = Command::new("python3").arg("--version").output();
    if !require_tool("python3", python.is_ok_and(|output| output.status.success())) {
        return None;
    }
    let mut command = as_in_a_terminal("python3");
    command.args(["-c", UNDER_A_FILTER, &error.to_string(), env!("CARGO_BIN_EXE_echown")]);
    Some(Server::run(command.args(["serve", "--listen", "127.0.0.1:0"]).args(arguments), 1))
}

#[test]
fn a_server_without_socket_cookies_serves_in_every_style_and_says_what_is_lost() {
    let errors = [libc::ENOPROTOOPT, libc::EOPNOTSUPP, libc::EPERM, libc::ENOSYS];
    for ((style, request), error) in STYLES.into_iter().zip(errors) {
        let arguments = ["--style", style, "--ownership", "full", "--log-format", "json"];
        let Some(mut server) = start(error, &arguments) else { return };
        let mut client = server.connect();
        client.write_all(request).unwrap();
        let mut reply = vec![0; request.len()];
        client.read_exact(&mut reply).unwrap();
        assert_eq!(reply, request, "{style}");
        let numbers: Vec<i32> =
            server.open_descriptors().into_iter().map(|(number, _)| number).collect();
        let mut custody = server.custody();
        // The halves of a split socket share a number.
        custody.dedup();
        assert_eq!(custody, numbers, "{style}");
        drop(client);
        let (code, lines) = server.stop();
        assert_eq!(code, Some(0), "{style}: {lines:#?}");
        let has = |part: &str| lines.iter().filter(|line| line.contains(part)).count();
        assert_eq!(has("the system rejects SO_COOKIE"), 1, "{style}: {lines:#?}");
        assert!(has("\"identity\":{\"socket_inode\":{\"device\":") > 0, "{style}: {lines:#?}");
        assert_eq!(has("\"identity\":{\"socket\":"), 0, "{style}: {lines:#?}");
        assert!(has("0 leaks, 0 violations") > 0, "{style}: {lines:#?}");
    }
}

#[test]
fn replaced_sockets_are_found_without_socket_cookies() {
    const CLIENTS: u64 = 20;
    for level in ["on", "full"] {
        let arguments = ["--chaos", "fd-replaced=1", "--ownership", level];
        let Some(server) = start(libc::EPERM, &arguments) else { return };
        for _ in 0..CLIENTS {
            let mut client = server.connect();
            client.write_all(b"x").unwrap();
            // Until the connection ends, with or without an error.
            let _ = client.read_to_end(&mut Vec::new());
        }
        let (code, lines) = server.stop();
        assert_eq!(code, Some(0), "{lines:#?}");
        assert_eq!(summary(&lines, "replaced fds"), CLIENTS, "{level}: {lines:#?}");
        let named = lines.iter().any(|line| line.contains("registered as socket inode"));
        assert!(named, "{level}: {lines:#?}");
    }
}
