//! The outputs in `README.md`, `docs/styles.md`, `docs/parking.md` and `docs/live-page.md` match the program.
//! `ci/pages` writes them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::Signal;

use super::broadcast::{frame, try_hear};
use super::server::{DEADLINE, Server, echown, exchange};
use crate::common::doc_pages::{KERNELS, assert_page_shows, rust_sources, steady, without_lines};
use crate::common::temp_path::TempPath;
use crate::common::{poll, require_tool, wait_until};

const README: &str = "README.md";
const STYLES: &str = "docs/styles.md";
const LIVE_PAGE: &str = "docs/live-page.md";

/// The client port in the pages.
pub const CLIENT: &str = "127.0.0.1:50000";

/// The output of a server as in the pages: on the style's default port, with one client.
struct Shown {
    server: String,
    port: u16,
    client: Option<String>,
}

impl Shown {
    fn new(server: &Server, port: u16, client: Option<&TcpStream>) -> Shown {
        let client = client.map(|client| client.local_addr().unwrap().to_string());
        Shown { server: server.address().to_string(), port, client }
    }

    fn text(&self, lines: &[String]) -> String {
        let mut text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        text = text.replace(&self.server, &format!("127.0.0.1:{}", self.port));
        if let Some(client) = &self.client {
            text = text.replace(client, CLIENT);
        }
        steady(&text, KERNELS)
    }
}

/// The custody table of a server once it has all of `wanted`, without inherited descriptors.
pub fn custody(server: &mut Server, wanted: &[&str]) -> Vec<String> {
    let has = |table: &[String], part: &str| table.iter().any(|line| line.contains(part));
    custody_with(server, |table| wanted.iter().all(|part| has(table, part)))
}

fn custody_with(server: &mut Server, is_wanted: impl Fn(&[String]) -> bool) -> Vec<String> {
    let mut last = Vec::new();
    let found = poll(DEADLINE, || {
        server.seen.clear();
        server.signal(Signal::USR1);
        server.wait_for_line("custody: ");
        server.wait_for_line("fd 0 declared");
        let begin = server.seen.iter().position(|line| line.starts_with("custody: ")).unwrap();
        let mut table = server.seen.split_off(begin);
        if is_wanted(&table) {
            let declared =
                table[0].rfind(", ").expect("the count of declared descriptors is the last line");
            // The standard streams and two descriptors of the signal handling.
            table[0].replace_range(declared.., ", 5 declared");
            return Some(table);
        }
        last = table;
        None
    });
    found.unwrap_or_else(|| panic!("unexpected output: {last:#?}"))
}

/// A task's part of the table; for a shortened task, the first line of each of its first resources.
pub fn task(table: &[String], name: &str, cut: Option<usize>) -> Vec<String> {
    let is_its = |line: &&String| line.starts_with("task ") && line.contains(&format!(" `{name}"));
    let begin = table.iter().position(|line| is_its(&line)).expect("the task is in the table");
    let rest = table[begin + 1..].iter().take_while(|line| line.starts_with(' '));
    let mut lines = vec![table[begin].clone()];
    match cut {
        None => lines.extend(rest.cloned()),
        Some(resources) => {
            let firsts = rest.filter(|line| !line.starts_with("   ")).take(resources);
            lines.extend(firsts.flat_map(|line| [line.clone(), "    ...".to_owned()]));
        }
    }
    lines
}

/// The lines of a server's log that begin with the one that has `first` and end with the one that
/// has `last`.
fn between(server: &mut Server, first: &str, last: &str) -> Vec<String> {
    server.wait_for_line(last);
    let begin = server.seen.iter().position(|line| line.contains(first)).expect("it has started");
    server.seen[begin..].to_vec()
}

#[test]
fn hello_comes_back_in_the_pages() {
    let back = exchange(Server::start(&[]).connect(), b"Hello\n");
    let output_text = format!(
        "$ echo Hello | nc -N localhost 3000\n{}",
        String::from_utf8(back).expect("it equals the sent bytes")
    );
    assert_page_shows(README, "hello", "console", &output_text);
    assert_page_shows(STYLES, "hello", "console", &output_text);
    assert_page_shows(LIVE_PAGE, "hello", "console", &output_text);
}

/// Without a browser; `ci/browser` performs the whole tour.
#[test]
fn the_tour_of_the_live_page_shows_what_the_programs_print() {
    let file = TempPath::new("recording.jsonl");
    let mut server = Server::start(&["--status", "127.0.0.1:0", "--record", file.text()]);
    let status = server.wait_for_line("status on http://");
    let output_text = format!(
        "$ echown serve --status 127.0.0.1:3001 --record echown.jsonl\n{}\n{}\n",
        server.seen[0].replace(&server.address().to_string(), "127.0.0.1:3000"),
        with_port(&status, 3001),
    );
    assert_eq!(server.seen.len(), 2, "{:#?}", server.seen);
    assert_page_shows(LIVE_PAGE, "the server of the tour", "console", &output_text);
    assert_eq!(exchange(server.connect(), b"Hello\n"), b"Hello\n");
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0), "{lines:#?}");
    assert!(lines.iter().any(|line| line.starts_with("1 connection, 0 refused")), "{lines:#?}");

    let mut view = Server::run(echown().args(["view", file.text()]), 0);
    let output_text = format!(
        "$ echown view echown.jsonl --listen 127.0.0.1:3002\n{}\n",
        with_port(&view.wait_for_line("open http://"), 3002)
    );
    assert_page_shows(LIVE_PAGE, "the recording of the tour", "console", &output_text);
}

/// A line that ends with a URL, with another port.
fn with_port(line: &str, port: u16) -> String {
    let (rest, _) = line.rsplit_once(':').expect("the URL has a port");
    format!("{rest}:{port}/")
}

#[test]
fn the_readme_shows_the_custody_table() {
    let mut server = Server::start(&[]);
    let mut client = server.connect();
    client.write_all(b"Hello\n").unwrap();
    client.read_exact(&mut [0; 6]).unwrap();
    let table = custody(&mut server, &["6 bytes out"]);
    let mut lines = vec![table[0].clone()];
    lines.extend(task(&table, "echo ", None));
    let output_text = Shown::new(&server, 3000, Some(&client)).text(&lines);
    let output_text = output_text.replacen('\n', "\n...\n", 1);
    let output_text = format!("$ kill -USR1 $(pgrep echown)\n{output_text}");
    assert_page_shows(README, "custody of serve", "console", &output_text);
}

#[test]
fn the_docs_show_the_servers_leak_report() {
    let mut server = Server::start(&["--chaos", "leak=1"]);
    let client = server.connect();
    let shown = Shown::new(&server, 3000, Some(&client));
    assert_eq!(exchange(client, b"Hello\n"), b"Hello\n");
    let output_text = shown.text(&between(&mut server, "error[leak]", "echown explain leak"));
    let output_text = format!("$ cargo run --release -- serve --chaos leak=1\n{output_text}");
    assert_page_shows("docs/robustness.md", "a leak of serve", "console", &output_text);
}

mod program {
    include!("readme_program.txt");

    pub(super) fn run() {
        main();
    }
}

/// Runs in its own process, like the program copied into `src/main.rs`.
#[test]
fn the_program_in_the_readme() {
    std::thread::Builder::new().name("main".into()).spawn(program::run).unwrap().join().unwrap();
}

#[test]
fn the_readme_shows_the_leak_report_of_its_program() {
    let readme =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let program = readme.split("```rust\n").nth(1).and_then(|it| it.split("```\n").next());
    assert_eq!(program, Some(include_str!("readme_program.txt")), "each is a copy of the other");
    let this = ["--exact", "pages::the_program_in_the_readme", "--nocapture", "-q"];
    let output = Command::new(std::env::current_exe().unwrap()).args(this).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let report: String = text
        .lines()
        .skip_while(|line| !line.starts_with("leak: "))
        .take_while(|line| line.starts_with("leak: ") || line.starts_with("  "))
        .map(|line| format!("{line}\n"))
        .collect();
    // The process of the test has one more task.
    let report =
        report.replace("task 2 `main`", "task 1 `main`").replace("task 3 `job`", "task 2 `job`");
    let output_text =
        steady(&report.replace("tests/it/readme_program.txt", "src/main.rs"), KERNELS);
    assert_page_shows(README, "the program's leak", "text", &output_text);
}

#[test]
fn the_docs_show_the_servers_trace() {
    let path = super::trace_path();
    let trace = ["--style", "staged", "--max-connections", "1", "--trace-events"];
    let mut server = Server::start(&[&trace[..], &[path.to_str().unwrap()]].concat());
    let mut client = server.connect();
    client.write_all(b"123\n").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut reply = String::new();
    client.read_to_string(&mut reply).unwrap();
    assert_eq!(reply, "123\n");
    let port = server.address().port();
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    let output_text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let output_text = output_text
        .replace(&format!("on port {port}."), "on port 3333.")
        .replace(&format!("from PID {}", std::process::id()), "from PID 4711");
    assert_page_shows(STYLES, "trace of serve --style staged", "text", &output_text);
}

#[test]
fn the_docs_show_the_clients_trace() {
    let address = crate::common::reserved::Reserved::new();
    let path = super::trace_path();
    let address = address.address().to_string();
    let asked = echown()
        .args(["client", &address, "--workers", "1", "--count", "1", "--trace-events"])
        .arg(&path)
        .output()
        .unwrap();
    assert_eq!(asked.status.code(), Some(1));
    let output_text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let output_text = output_text.replace(&address, "127.0.0.1:3333");
    assert_page_shows(STYLES, "trace of client --style staged", "text", &output_text);
}

#[test]
fn the_docs_show_the_path_through_the_machines() {
    let mut server = Server::start(&["--style", "staged", "--max-connections", "1"]);
    let mut client = server.connect();
    client.write_all(b"123\n").unwrap();
    client.read_exact(&mut [0; 4]).unwrap();
    let table = custody(&mut server, &["`RX-1`, 4 bytes in, 4 bytes out"]);
    let lines = task(&table, "RX-1", None);
    let output_text = Shown::new(&server, 3333, Some(&client)).text(&lines);
    let output_text = format!("$ kill -USR1 $(pgrep -f 'echown serve')\n...\n{output_text}...\n");
    assert_page_shows(STYLES, "custody of serve --style staged", "console", &output_text);
}

#[test]
fn the_docs_show_the_output_of_the_staged_client() {
    let server = Server::start(&["--style", "staged"]);
    let address = server.address().to_string();
    let asked = ["client", &address, "--workers", "1", "--count", "2", "--pause", "0s"];
    let output = echown().args(asked).output().unwrap();
    let output_text = [output.stdout, output.stderr].concat();
    let output_text = String::from_utf8(output_text).unwrap().replace(&address, "127.0.0.1:3333");
    let output_text = format!("$ echown client --workers 1 --count 2\n{output_text}");
    assert_page_shows(STYLES, "client --style staged", "console", &output_text);
}

#[test]
fn the_docs_show_the_output_of_the_broadcast() {
    let mut server = Server::start(&["--style", "broadcast"]);
    let first =
        server.seen.last().unwrap().replace(&server.address().to_string(), "127.0.0.1:8000");
    let output_text = format!("$ echown serve --style broadcast\n{first}\n");
    assert_page_shows(STYLES, "serve --style broadcast", "console", &output_text);

    let mut chat = echown()
        .args(["client", "--style=broadcast", "--name=ann", &server.address().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    chat.stdin.take().unwrap().write_all(b"one\ntwo\n").unwrap();
    let heard = String::from_utf8(chat.wait_with_output().unwrap().stdout).unwrap();
    let output_text =
        format!("$ printf 'one\\ntwo\\n' | echown client --style broadcast --name ann\n{heard}");
    assert_page_shows(STYLES, "client --style broadcast in a pipe", "console", &output_text);

    let mut client = server.connect();
    client.write_all(&[&[u8::MAX; 8][..], b"a frame"].concat()).unwrap();
    let shown = Shown::new(&server, 8000, Some(&client));
    let line = server.wait_for_line("--max-frame");
    let line = format!("... {}", &line[line.find("WARN").unwrap()..]);
    assert_page_shows(STYLES, "a frame that is too long", "console", &shown.text(&[line]));
}

#[test]
fn the_docs_show_the_owners_of_both_halves_and_the_last_lines() {
    let mut server = Server::start(&["--style", "broadcast"]);
    let mut client = server.connect();
    client.write_all(&frame(b"Hello")).unwrap();
    assert_eq!(try_hear(&mut client).unwrap(), b"Hello");
    let table = custody(&mut server, &["13 bytes in, 0 bytes out", "0 bytes in, 13 bytes out"]);
    let mut lines = vec![table[0].clone(), "...".to_owned()];
    lines.extend(task(&table, "broadcast ", None));
    lines.extend(task(&table, "writer of ", None));
    let output_text = Shown::new(&server, 8000, Some(&client)).text(&lines);
    let output_text = format!("$ kill -USR1 $(pgrep -f 'echown serve')\n{output_text}...\n");
    assert_page_shows(STYLES, "custody of serve --style broadcast", "console", &output_text);

    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    let last = server.seen.iter().rev().take(3).rev();
    let output_text: String = last
        .map(|line| match line.find(" INFO ") {
            Some(begin) => format!("...{}\n", &line[begin..]),
            None => format!("{line}\n"),
        })
        .collect();
    // The duration is not compared.
    let (before, rest) = output_text.rsplit_once(", drained in ").expect("it drains");
    let (_, after) = rest.split_once(" ms\n").expect("a line");
    let output_text = format!("{before}, drained in 0 ms\n{after}");
    assert_page_shows(STYLES, "the end of serve --style broadcast", "console", &output_text);
}

#[test]
fn the_docs_show_how_faults_are_logged() {
    let faults = ["--faults", "short=0.2,interrupt=0.2,read=0.01,write=0.01", "--faults-seed", "7"];
    let server = Server::start(&faults);
    let log = Shown::new(&server, 3000, None).text(&server.seen);
    let log = format!("$ echown serve {}\n{log}", faults.join(" "));
    assert_page_shows("docs/robustness.md", "faults of serve", "console", &log);
}

#[test]
fn the_docs_show_the_cycle() {
    let mut server = Server::start(&["--style", "callback", "--chaos", "cycle=1"]);
    let client = server.connect();
    let shown = Shown::new(&server, 10101, Some(&client));
    assert_eq!(exchange(client, b"Hello\n"), b"Hello\n");
    let output_text = shown.text(&between(&mut server, "error[leak]", "echown explain leak"));
    let output_text = format!("$ echown serve --style callback --chaos cycle=1\n{output_text}");
    assert_page_shows(STYLES, "a cycle of serve --style callback", "console", &output_text);
}

/// A user at a terminal.
struct Terminal {
    child: Child,
    typed: ChildStdin,
    shown: Arc<Mutex<String>>,
    reader: std::thread::JoinHandle<()>,
}

impl Terminal {
    fn start(server: &Server, name: &str) -> Terminal {
        let program = env!("CARGO_BIN_EXE_echown");
        let address = server.address();
        let line = format!("exec {program} client --style broadcast --name {name} {address}");
        let mut child = Command::new("script")
            .args(["-q", "-E", "always", "-c", &line, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it exists");
        let typed = child.stdin.take().unwrap();
        let mut screen = BufReader::new(child.stdout.take().unwrap());
        let shown = Arc::new(Mutex::new(String::new()));
        let text = Arc::clone(&shown);
        let reader = std::thread::spawn(move || {
            let mut line = Vec::new();
            while screen.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
                *text.lock().unwrap() += &String::from_utf8_lossy(&line);
                line.clear();
            }
        });
        Terminal { child, typed, shown, reader }
    }

    fn wait_for(&self, part: &str) {
        wait_until(part, || self.shown.lock().unwrap().contains(part));
    }

    /// The screen after the program has exited.
    fn end(mut self) -> String {
        self.child.wait().unwrap();
        drop(self.typed);
        self.reader.join().unwrap();
        let shown = self.shown.lock().unwrap();
        shown.replace('\r', "")
    }
}

#[test]
fn the_docs_show_a_chat_of_two() {
    let script = Command::new("script").arg("--version").output();
    if !require_tool("`script`, of util-linux", script.is_ok()) {
        return;
    }
    let mut server = Server::start(&["--style", "broadcast"]);
    // The client that receives everything knows when another one has joined.
    let mut third = server.connect();
    third.write_all(&frame(b"")).unwrap();
    assert_eq!(try_hear(&mut third).unwrap(), b"");
    let mut bob = Terminal::start(&server, "bob");
    let is_writer = |line: &&String| line.starts_with("task ") && line.contains("`writer of ");
    custody_with(&mut server, |table| table.iter().filter(is_writer).count() == 2);
    let mut ann = Terminal::start(&server, "ann");
    ann.typed.write_all(b"is anybody here?\n").unwrap();
    assert_eq!(try_hear(&mut third).unwrap(), b"ann: is anybody here?");
    bob.wait_for("ann: is anybody here?");
    bob.typed.write_all(b"I am\n").unwrap();
    assert_eq!(try_hear(&mut third).unwrap(), b"bob: I am");
    ann.wait_for("bob: I am");
    ann.typed.write_all(b"good\n").unwrap();
    bob.wait_for("ann: good");
    ann.typed.write_all(b"\x04").unwrap();
    let ann = ann.end();
    drop(third);
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0), "{lines:#?}");
    let of = |name, screen| format!("$ echown client --style broadcast --name {name}\n{screen}");
    assert_page_shows(STYLES, "ann", "console", &of("ann", ann));
    assert_page_shows(STYLES, "bob", "console", &of("bob", bob.end()));
}

/// The marker of an output that depends on the machine and is not written again.
const MEASURED: &str = "<!-- measured -->";

/// A block that shows an output has a marker, and a test has that marker.
#[test]
fn every_output_in_the_pages_has_a_test() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let tests = rust_sources(&["tests"]);
    // Reports of programs that are installed here, whose addresses and versions differ elsewhere.
    let of_programs = std::fs::read_to_string(root.join("ci/run_page")).unwrap();
    let mut pages = vec![root.join(README)];
    pages.extend(std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path()));
    let mut outputs = 0;
    for page in pages.iter().filter(|page| page.extension().is_some_and(|it| it == "md")) {
        // Two are tested as a whole, one has measured figures with their conditions.
        if ["reports.md", "deploying.md", "performance.md"].iter().any(|it| page.ends_with(it)) {
            continue;
        }
        let text = std::fs::read_to_string(page).unwrap();
        for lines in text.lines().collect::<Vec<_>>().windows(2) {
            let is_output = ["```console", "```text", "```xml", "```json"].contains(&lines[1]);
            if !is_output || lines[0] == MEASURED {
                continue;
            }
            outputs += 1;
            let marker = lines[0].strip_prefix("<!-- ").and_then(|it| it.strip_suffix(" -->"));
            let marker = marker.unwrap_or_else(|| panic!("{page:?}: no marker above a block"));
            let is_of_program = marker
                .strip_prefix("run: ")
                .is_some_and(|name| of_programs.contains(&format!("\ndef {name}(example):")));
            let is_tested = is_of_program || tests.contains(&format!("\"{marker}\""));
            assert!(is_tested, "{page:?}: no test of {marker:?}");
        }
    }
    assert!(outputs > 20, "{outputs}");
}

#[test]
fn only_line_numbers_in_src_may_differ_between_page_and_output() {
    let page =
        "task at src/a.rs:9:41, 0ms\n   --> src/a.rs:9:41\n  |\n9 |     let it = 1;\n  = note: x\n";
    let moved = "task at src/a.rs:10:41, 0ms\n  --> src/a.rs:10:41\n   |\n10 |     let it = 1;\n   = note: x\n";
    assert_eq!(without_lines(page), without_lines(moved));
    for other in [
        moved.replace("it = 1", "it = 2"),
        moved.replace("src/a.rs", "src/b.rs"),
        moved.replace("0ms", "1ms"),
        moved.replace("note: x", "note: y"),
    ] {
        assert_ne!(without_lines(page), without_lines(&other));
    }
    let tests = "opened at tests/a.rs:9:41";
    assert_ne!(without_lines(tests), without_lines(&tests.replace(":9:", ":10:")));
}

#[test]
fn the_page_of_parking_shows_the_custody_of_a_parked_connection() {
    let mut server = Server::start(&["--park"]);
    let mut client = server.connect();
    for _ in 0..1000 {
        client.write_all(b"Hello\n").unwrap();
        client.read_exact(&mut [0; 6]).unwrap();
    }
    // The last step may be recorded before the state is.
    let whole = ["6000 bytes out", "parked 1000 times", ", parked, owner task"];
    let table = custody(&mut server, &whole);
    let acceptor = task(&table, "accept ", None);
    let begin = acceptor.iter().position(|line| line.starts_with("  tcp stream"));
    let mut lines = vec![acceptor[0].clone(), "  ...".to_owned()];
    lines.extend_from_slice(&acceptor[begin.expect("the acceptor owns it")..]);
    let output_text = Shown::new(&server, 3000, Some(&client)).text(&lines);
    let output_text = format!("$ kill -USR1 $(pgrep echown)\n...\n{output_text}...\n");
    assert_page_shows("docs/parking.md", "a parked connection", "console", &output_text);
}
