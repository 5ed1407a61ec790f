//! Arguments: the help is correct, and wrong arguments are rejected with a reason.

use super::server::{echown, serve};

fn help(arguments: &[&str]) -> String {
    let output = echown().args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_help_names_every_default() {
    let help = help(&["serve", "--help"]);
    for (option, default) in [
        ("--listen", "127.0.0.1:3000"),
        ("--max-connections", "1024, or what fits"),
        ("--drain-timeout", "10s"),
        ("--park-workers", "1"),
        ("--park-blocked", "1024"),
        ("--ownership", "on"),
        ("--on-leak", "warn"),
        ("--on-violation", "warn"),
        ("--report <FORMAT>", "text; json on standard error with --log-format json"),
        ("--log-level", "info"),
        ("--log-format", "text"),
    ] {
        let option = &format!("\n      {option}");
        let section =
            help.split(option.as_str()).nth(1).unwrap_or_else(|| panic!("{option} is missing"));
        // The help is wrapped.
        let section = section.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(section.contains(&format!("[default: {default}]")), "{option}: {section}");
    }
}

#[test]
fn invalid_arguments_exit_with_2_and_state_what_is_expected() {
    for (arguments, expected) in [
        (&["--drain-timeout", "10"][..], "expected a duration with a unit"),
        (&["--max-connections", "0"], "expected a whole number, 1 or more"),
        (&["--max-connections", "many"], "expected a whole number, 1 or more"),
        (&["--ownership", "loud"], "possible values: off, on, full"),
        (&["--on-leak", "cry"], "possible values: ignore, warn, fail, abort"),
        (&["--log-format", "xml"], "possible values: text, json"),
        (&["--report", "xml"], "possible values: text, json"),
        (&["--suppressions", "/nonexistent"], "failed to read the suppressions in /nonexistent"),
        (&["--no-such-option"], "unexpected argument"),
        (&["--listen", "nowhere"], "expected ADDRESS:PORT"),
        (&["--listen", "127.0.0.1:99999"], "expected ADDRESS:PORT"),
        (&["--drain-timeout", "18446744073709551615s"], "expected at most 365d"),
    ] {
        let output = serve(&["127.0.0.1:0"], arguments).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    }
}

#[test]
fn an_option_of_one_style_is_rejected_by_name_for_another() {
    for (style, arguments) in [
        ("broadcast", &["--max-frame", "1MiB"][..]),
        ("broadcast", &["--max-send-queue", "1MiB"]),
        ("broadcast", &["--slow-reader", "drop-oldest"]),
        ("staged", &["--max-request", "1KiB"]),
        ("staged", &["--request-timeout", "1s"]),
        ("staged", &["--trace-events"]),
        ("callback", &["--graph"]),
    ] {
        let output = serve(&["127.0.0.1:0"], arguments).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        let option = arguments[0];
        let expected = format!("echown: {option} is for --style {style}, not --style echo\n");
        assert_eq!(stderr, expected);
    }
}

#[test]
fn help_and_errors_of_a_style_are_specific_to_it() {
    let help = help(&["serve", "--help"]);
    for (option, default) in [
        ("--max-frame <", "16MiB"),
        ("--max-send-queue <", "4MiB"),
        ("--slow-reader <", "disconnect"),
    ] {
        let section = help.split(option).nth(1).unwrap_or_else(|| panic!("{option} is missing"));
        // The help is wrapped.
        let section = section.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(section.contains(&format!("[default: {default}]")), "{option}: {section}");
    }
    for (arguments, expected) in [
        (&["--max-frame", "many"][..], "expected a size such as `65536`, `64KiB` or `16MiB`"),
        (&["--max-send-queue", "0"], "size must be at least 1 byte"),
        (&["--slow-reader", "shoot"], "possible values: disconnect, drop-oldest"),
    ] {
        let arguments = [&["--style", "broadcast"], arguments].concat();
        let output = serve(&["127.0.0.1:0"], &arguments).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    }
}

#[test]
fn an_unavailable_address_is_an_error_that_names_it() {
    // An address for documentation only (RFC 5737): no machine has it.
    let output = serve(&["192.0.2.1:0"], &[]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("failed to listen on 192.0.2.1:0"), "{stderr}");
}
