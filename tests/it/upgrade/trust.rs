//! Who may take part in an upgrade.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use super::super::server::{Server, echown};
use super::{Client, Folder, failure, stop};

#[test]
fn the_socket_is_for_its_user_only() {
    let folder = Folder::new();
    let old = folder.serve(&[]);
    assert_eq!(fs::metadata(folder.socket()).unwrap().mode() & 0o777, 0o600);
    stop(old);
}

#[test]
fn a_folder_that_others_can_write_to_is_refused_with_the_remedy() {
    let folder = Folder::new();
    fs::set_permissions(&folder.0, Permissions::from_mode(0o777)).unwrap();
    let (code, stderr) = folder.fail(&["--listen", "127.0.0.1:0"]);
    let shown = folder.0.display();
    let reason = format!(
        "others can write to the folder {shown} (mode 777) and could replace the socket; `chmod go-w \
         {shown}`, or use another folder"
    );
    assert!(code == Some(1) && stderr.contains(&reason), "{code:?} {stderr}");
    fs::set_permissions(&folder.0, Permissions::from_mode(0o1777)).unwrap();
    stop(folder.serve(&[]));
}

/// A command as the user `nobody`. `None`: only root can do that.
fn as_nobody() -> Option<Command> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(echown().get_program());
    command.status().is_ok_and(|status| status.code() == Some(2)).then(|| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.arg(env!("CARGO_BIN_EXE_echown"));
        command
    })
}

#[test]
fn processes_of_two_users_do_not_replace_each_other() {
    let Some(mut nobody) = as_nobody() else {
        eprintln!("skipped: only root has two users");
        return;
    };
    let folder = Folder::new();
    fs::set_permissions(&folder.0, Permissions::from_mode(0o1777)).unwrap();
    let socket = folder.socket();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--upgrade-socket", &socket];
    let mut old = Server::run(nobody.args(serve), 1);
    // Root may connect to everything, and both sides reject it.
    let refused = "it runs as user 0, and this process as user 65534";
    assert_eq!(Client::connect(&socket).refusal(), refused);
    old.wait_for_line("an upgrade was refused: it runs as user 0");
    let (code, stderr) = failure(echown().args(serve));
    let reason = "it runs as user 65534, and this process as user 0; it goes on serving";
    assert!(code == Some(1) && stderr.contains(reason), "{code:?} {stderr}");
    stop(old);
}

#[test]
fn a_process_of_another_pid_namespace_takes_over() {
    let isolated = |words: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child"]).args(words);
        command
    };
    let can = rustix::process::geteuid().is_root()
        && isolated(&["true"]).status().is_ok_and(|status| status.success());
    if !can {
        eprintln!("skipped: needs root and unshare(1)");
        return;
    }
    let folder = Folder::new();
    let mut old = folder.serve(&[]);
    let program = env!("CARGO_BIN_EXE_echown");
    let serve = ["serve", "--listen", "127.0.0.1:0", "--upgrade-socket", &folder.socket()];
    let mut new = Server::run(&mut isolated(&[&[program], &serve[..]].concat()), 1);
    new.wait_for_line("took over from process ");
    assert!(old.wait().success());
    // Its parent's death kills it.
    new.signal(rustix::process::Signal::KILL);
}
