//! Completions, in the shells themselves.

use std::path::Path;
use std::process::Command;

use super::server::echown;
use crate::common::{require_tool, temp_path::TempPath};

fn script(shell: &str) -> String {
    let output = echown().args(["completions", shell]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a script in a shell that finds `echown`. `None` if the shell is missing; a message says so.
fn run(shell: &str, options: &[&str], script: &str) -> Option<Vec<String>> {
    let has_shell = Command::new(shell).args(["-c", "true"]).output().is_ok();
    if !require_tool(shell, has_shell) {
        return None;
    }
    let program = Path::new(env!("CARGO_BIN_EXE_echown"));
    let path = format!("{}:/usr/bin:/bin", program.parent().unwrap().display());
    let home = TempPath::folder(shell);
    let mut command = Command::new(shell);
    command.args(options).args(["-c", script]).current_dir(&*home);
    let output = command.env("PATH", path).env("HOME", &*home).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.is_empty(), "{output:?}");
    Some(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect())
}

const STYLES: [&str; 4] = ["broadcast", "callback", "echo", "staged"];

#[test]
fn bash_completes_commands_options_and_their_values() {
    // As bash calls the function for a line.
    let functions = r#"
        source <(echown completions bash)
        complete -p echown
        line() {
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
            compopt() { :; }
            _echown echown "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
            echo $(printf '%s\n' "${COMPREPLY[@]}" | sort)
        }
        line echown serve --style ''
        line echown ser
        line echown serve --max-per
        line echown bench compare --load thr
        line echown serve --port"#;
    let Some(lines) = run("bash", &["--norc"], functions) else { return };
    assert!(lines[0].starts_with("complete ") && lines[0].ends_with(" -F _echown echown"));
    assert_eq!(lines[1], STYLES.join(" "));
    assert_eq!(
        lines[2..5],
        ["serve", "--max-per-ip", "throughput-10k throughput-1k throughput-64"]
    );
    // An option of another program, which is only in an error message.
    assert_eq!(lines[5..], [""]);
}

#[test]
fn fish_completes_options_and_values_with_a_short_description() {
    let functions = "
        echown completions fish | source
        complete --do-complete 'echown serve --style '
        complete --do-complete 'echown serve --max-per'";
    let Some(lines) = run("fish", &["--no-config"], functions) else { return };
    let names: Vec<&str> = lines.iter().filter_map(|line| line.split('\t').next()).collect();
    assert_eq!(names, [&STYLES[..], &["--max-per-ip"]].concat());
    assert_eq!(lines[2], "echo\tEchoes every byte (RFC 862) until the client has finished");
}

#[test]
fn zsh_loads_the_completions_for_the_program() {
    let functions = "
        mkdir functions && echown completions zsh > functions/_echown
        fpath=($PWD/functions $fpath)
        autoload -U compinit && compinit -u -d $PWD/dump
        print $_comps[echown]
        autoload +X _echown && print loaded";
    let Some(lines) = run("zsh", &["-f"], functions) else { return };
    assert_eq!(lines, ["_echown", "loaded"]);
}

#[test]
fn the_scripts_of_all_shells_have_the_options_and_no_backticks() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = script(shell);
        for part in ["max-per-ip", "healthcheck", "drop-oldest"] {
            // elvish and PowerShell complete no values.
            let is_value = part == "drop-oldest";
            if !is_value || ["bash", "fish", "zsh"].contains(&shell) {
                assert!(script.contains(part), "{shell}: {part}");
            }
        }
        // PowerShell's escape character.
        assert!(shell == "powershell" || !script.contains('`'), "{shell}");
    }
}
