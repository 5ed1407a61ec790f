//! `docs/deploying.md`, line by line: every command of its `console` blocks runs, and prints what the page
//! shows.

use std::path::Path;

use crate::common::console_page::ConsolePage;

#[test]
fn the_page_about_deploying_shows_what_its_commands_print() {
    let program = Path::new(env!("CARGO_BIN_EXE_echown"));
    ConsolePage { page: "docs/deploying.md", program, ports: &[3000, 3001] }.check();
}
