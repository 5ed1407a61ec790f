//! The traces in `docs/styles.md` are the program's own. `UPDATE_DOCS=1 cargo test --test it styles_doc`
//! writes them anew.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use rustix::process::Signal;

use super::reserved::Reserved;
use super::server::{Server, echown};

/// Both tests write the same file.
static DOCUMENT: Mutex<()> = Mutex::new(());

/// Compares the block after a marker with what the program has said, or writes it there.
fn attest(marker: &str, said: &str) {
    let _alone = DOCUMENT.lock().unwrap_or_else(PoisonError::into_inner);
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/styles.md");
    let document = std::fs::read_to_string(&path).unwrap();
    let opening = format!("<!-- {marker} -->\n```text\n");
    let (before, rest) = document.split_once(&opening).expect("the marker is there");
    let (block, after) = rest.split_once("```\n").expect("the block has an end");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{opening}{said}```\n{after}")).unwrap();
    } else {
        assert_eq!(block, said, "`UPDATE_DOCS=1 cargo test --test it styles_doc` writes it anew");
    }
}

#[test]
fn the_servers_trace_is_the_one_in_the_docs() {
    let path = super::trace_path();
    let trace = ["--style", "staged", "--max-connections", "1", "--trace-events"];
    let mut server = Server::start(&[&trace[..], &[path.to_str().unwrap()]].concat());
    let mut client = server.connect();
    client.write_all(b"123\n").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut reply = String::new();
    client.read_to_string(&mut reply).unwrap();
    assert_eq!(reply, "123\n");
    let port = server.address().port();
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    let said = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let said = said
        .replace(&format!("on port {port}."), "on port 3333.")
        .replace(&format!("from PID {}", std::process::id()), "from PID 4711");
    attest("trace of serve --style staged", &said);
}

#[test]
fn the_clients_trace_is_the_one_in_the_docs() {
    let nobody = Reserved::new();
    let address = nobody.address().to_string();
    let path = super::trace_path();
    let asked = echown()
        .args(["client", &address, "--workers", "1", "--count", "1", "--trace-events"])
        .arg(&path)
        .output()
        .unwrap();
    assert_eq!(asked.status.code(), Some(1));
    let said = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    attest("trace of client --style staged", &said.replace(&address, "127.0.0.1:3333"));
}
