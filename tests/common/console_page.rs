//! Pages whose `console` blocks are run as a reader would: every command, in order, in one shell for
//! each section, and the output is compared, or written with `UPDATE_DOCS=1`.
//!
//! A line `<!-- needs: TOOL ... -->` before a block names what it takes: programs, or `root`. Where one is
//! missing, the section is skipped from there on. A command that ends with `&` and sends standard error to
//! a file is waited for until `listening on` is in that file.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::doc_pages::{KERNELS, steady, without_lines};
use super::require_tool;
use super::reserved::Reserved;
use super::temp_path::TempPath;

/// How long a section may take, in seconds.
const SECTION_SECONDS: u32 = 120;

/// Before each command's output: a character that no program writes, and the command's index.
const MARK: char = '\u{1}';

/// A page, the program that it is about, and the ports that it shows.
pub struct ConsolePage<'a> {
    pub page: &'a str,
    pub program: &'a Path,
    pub ports: &'a [u16],
}

/// A command with the output that the page shows.
struct Step {
    command: String,
    /// The lines of the page that the output takes.
    shown: std::ops::Range<usize>,
}

impl ConsolePage<'_> {
    /// Runs every section, and compares or writes the outputs.
    pub fn check(&self) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(self.page);
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let mut written = String::new();
        let mut next = 0;
        let sections = sections(&lines);
        assert!(sections.iter().any(|steps| !steps.is_empty()), "{}: no commands", self.page);
        for steps in &sections {
            let outputs = self.run(steps);
            for (step, output) in steps.iter().zip(outputs) {
                for line in &lines[next..step.shown.start] {
                    writeln!(written, "{line}").unwrap();
                }
                written += &output;
                next = step.shown.end;
            }
        }
        for line in &lines[next..] {
            writeln!(written, "{line}").unwrap();
        }
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::write(&path, written).unwrap();
        } else {
            let (text, written) = (without_lines(&text), without_lines(&written));
            let wrong = text.lines().zip(written.lines()).find(|(shown, real)| shown != real);
            let message = "with UPDATE_DOCS=1 this test writes the page";
            assert_eq!(wrong, None, "{} is out of date; {message}", self.page);
            assert_eq!(text, written, "{} is out of date; {message}", self.page);
        }
    }

    /// The outputs of commands in one shell, without what differs from run to run.
    fn run(&self, steps: &[Step]) -> Vec<String> {
        if steps.is_empty() {
            return Vec::new();
        }
        let folder = TempPath::new("console-page");
        fs::create_dir_all(folder.join("bin")).unwrap();
        symlink(self.program, folder.join("bin/echown")).unwrap();
        for name in ["deploy", "Containerfile"] {
            symlink(Path::new(env!("CARGO_MANIFEST_DIR")).join(name), folder.join(name)).unwrap();
        }
        let reserved: Vec<Reserved> = self.ports.iter().map(|_| Reserved::new()).collect();
        let taken: Vec<String> =
            reserved.iter().map(|reserved| reserved.address().port().to_string()).collect();
        let ports: Vec<String> = self.ports.iter().map(u16::to_string).collect();
        // As in a terminal: with job control a background job does not ignore SIGINT.
        let mut script =
            String::from("set -m; exec 2>&1\ntrap 'kill $(jobs -p) 2>/dev/null' EXIT\n");
        for (index, step) in steps.iter().enumerate() {
            let mut command = step.command.clone();
            for (port, taken) in ports.iter().zip(&taken) {
                command = command.replace(port.as_str(), taken);
            }
            writeln!(script, "printf '\\001%s\\n' {index}\n{command}").unwrap();
            if let Some(log) = background_log(&command) {
                writeln!(
                    script,
                    "for _ in $(seq 300); do grep -qis 'listening on' {log} && break; sleep 0.1; done"
                )
                .unwrap();
            }
        }
        let script_path = folder.join("script");
        fs::write(&script_path, script).unwrap();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut all = vec![folder.join("bin")];
        all.extend(std::env::split_paths(&path));
        let mut shell = Command::new("timeout");
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("ECHOWN_SERVE_")
                || ["RUST_BACKTRACE", "NOTIFY_SOCKET"].contains(&&*text)
            {
                shell.env_remove(name);
            }
        }
        let output = shell
            .args(["--kill-after=5", &SECTION_SECONDS.to_string(), "bash"])
            .arg(&script_path)
            .current_dir(&*folder)
            .env("PATH", std::env::join_paths(all).unwrap())
            .env("HOME", &*folder)
            .stdin(Stdio::null())
            .output()
            .expect("timeout(1) and bash are there");
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        for (port, taken) in ports.iter().zip(&taken) {
            text = text.replace(taken.as_str(), port);
        }
        text = text.replace(folder.to_str().unwrap(), "/srv");
        let text = steady(
            &without_times(&without_client_ports(&text)),
            &[KERNELS, &["process ", "PID "]].concat(),
        );
        let outputs: Vec<String> =
            text.split(MARK)
                .skip(1)
                .map(|part| part.split_once('\n').map_or("", |(_, output)| output).to_owned())
                .map(|output| {
                    if output.is_empty() || output.ends_with('\n') { output } else { output + "\n" }
                })
                .collect();
        let (ran, all) = (outputs.len(), steps.len());
        assert_eq!(ran, all, "{}: the shell ended early ({}):\n{text}", self.page, output.status);
        outputs
    }
}

/// The commands of each section that can run here.
fn sections(lines: &[&str]) -> Vec<Vec<Step>> {
    let mut sections = vec![Vec::new()];
    let mut is_skipped = false;
    let mut index = 0;
    while index < lines.len() {
        let line = lines[index];
        if line.starts_with("## ") {
            sections.push(Vec::new());
            is_skipped = false;
        } else if let Some(needs) = line.strip_prefix("<!-- needs: ") {
            let needs = needs.trim_end_matches(" -->");
            is_skipped |= !needs.split(' ').all(is_there);
        } else if line == "```console" {
            let end = index + lines[index..].iter().position(|line| *line == "```").unwrap();
            if !is_skipped {
                sections.last_mut().unwrap().extend(steps(lines, index + 1, end));
            }
            index = end;
        }
        index += 1;
    }
    sections
}

fn steps(lines: &[&str], begin: usize, end: usize) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for (index, line) in lines.iter().enumerate().take(end).skip(begin) {
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step { command: command.to_owned(), shown: index + 1..index + 1 });
            continue;
        }
        let last = steps.last_mut().expect("a block begins with a command");
        match line.strip_prefix("> ") {
            Some(more) if last.shown.is_empty() => {
                last.command += "\n";
                last.command += more;
                last.shown = index + 1..index + 1;
            }
            _ => last.shown.end = index + 1,
        }
    }
    steps
}

fn is_there(need: &str) -> bool {
    if need == "root" {
        let is_root = rustix::process::geteuid().is_root();
        if !is_root {
            eprintln!("skipped: needs root");
        }
        return is_root;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = std::env::split_paths(&path).any(|folder: PathBuf| folder.join(need).exists());
    require_tool(need, is_there)
}

/// The file that a background command writes standard error to.
fn background_log(command: &str) -> Option<&str> {
    let command = command.strip_suffix('&')?;
    let (_, log) = command.rsplit_once("2>")?;
    Some(log.trim_start_matches('>').split_whitespace().next()?.trim())
}

/// A text with 50000, 50001 ... in the place of the ports that the kernel chose for clients.
fn without_client_ports(text: &str) -> String {
    const BEFORE: &str = "127.0.0.1:";
    let mut known: Vec<&str> = Vec::new();
    let mut parts = text.split(BEFORE);
    let mut without = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        without += BEFORE;
        let (port, rest) = part.split_at(part.bytes().take_while(u8::is_ascii_digit).count());
        if port.len() < 5 {
            without += part;
            continue;
        }
        let index = known.iter().position(|known| *known == port).unwrap_or_else(|| {
            known.push(port);
            known.len() - 1
        });
        without += &format!("{}{rest}", 50_000 + index);
    }
    without
}

/// A text with one time in the place of all time stamps, and without the length of the drain.
fn without_times(text: &str) -> String {
    const DRAINED: &str = "drained in ";
    let mut parts = text.split(DRAINED);
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        text += &format!("{DRAINED}0{}", &part[digits..]);
    }
    without_time_stamps(&text)
}

fn without_time_stamps(text: &str) -> String {
    const FORM: &str = "0000-00-00T00:00:00.000000Z";
    let is_time = |text: &str| {
        text.len() >= FORM.len()
            && FORM.bytes().zip(text.bytes()).all(|(form, byte)| match form {
                b'0' => byte.is_ascii_digit(),
                _ => form == byte,
            })
    };
    let mut without = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if is_time(rest) { FORM.len() } else { first.len_utf8() };
        without += if is_time(rest) { "2026-01-01T00:00:00.000000Z" } else { &rest[..length] };
        rest = &rest[length..];
    }
    without
}
