//! The README's first minute, literally.

use std::io::Write;
use std::process::{Command, Stdio};

use super::server::Server;

#[test]
fn netcat_gets_its_hello_back() {
    let help = Command::new("nc").arg("-h").output();
    let is_openbsd =
        help.is_ok_and(|help| String::from_utf8_lossy(&help.stderr).contains("OpenBSD"));
    if !is_openbsd {
        eprintln!("skipped: OpenBSD netcat is not installed");
        return;
    }
    let server = Server::start(&[]);
    let port = server.address().port().to_string();
    let mut nc = Command::new("nc")
        .args(["-N", "localhost", &port])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("nc starts");
    nc.stdin.take().expect("it was piped").write_all(b"Hello\n").unwrap();
    let output = nc.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"Hello\n");
}

#[test]
fn the_program_says_on_which_address_it_listens_before_anything_else_is_asked_of_it() {
    let server = Server::start(&["--log-format", "json"]);
    assert_eq!(server.seen.last().unwrap(), &format!("listening on {}", server.address()));
}

#[test]
fn every_test_that_the_readme_names_exists() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let mut sources = String::new();
    let mut folders = vec![root.join("tests"), root.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources += &std::fs::read_to_string(path).unwrap();
            }
        }
    }
    let rows = readme.lines().skip_while(|line| !line.starts_with("| ancestor |"));
    let rows: Vec<&str> = rows.skip(2).take_while(|line| line.starts_with('|')).collect();
    assert_eq!(rows.len(), 4, "one for each ancestor");
    for row in rows {
        let defects = row.split('|').nth(4).expect("the last column");
        let names: Vec<&str> = defects.split('`').skip(1).step_by(2).collect();
        assert!(names.len() >= 3, "{row}");
        for name in names {
            assert!(sources.contains(&format!("fn {name}(")), "there is no test {name}");
        }
    }
}
