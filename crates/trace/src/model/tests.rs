//! Tests of the model by short programs.

use crate::event::{Event, OpenFd, Opened, Tid, What};
use crate::finding::{Finding, Kind};
use crate::judge::judge;
use crate::model::Model;
use crate::stack::StackId;

mod bounds;
mod exits;
mod failed;
mod passing;
mod reference;
mod tables;

/// EBADF on Linux.
const EBADF: i32 = 9;

/// Writes events as calls of tasks. One millisecond passes with each.
#[derive(Debug, Default)]
struct Program {
    model: Model,
    time_ns: u64,
}

fn fd(number: i32) -> OpenFd {
    OpenFd { number, link: format!("/file{number}"), is_cloexec: false, details: None }
}

fn cloexec(number: i32) -> OpenFd {
    OpenFd { is_cloexec: true, ..fd(number) }
}

impl Program {
    /// Task 1 runs `/bin/one` with 0 to 2 open.
    fn start() -> Program {
        let mut program = Program::default();
        program.started("/bin/one");
        program
    }

    fn started(&mut self, program: &str) {
        let open = vec![fd(0), fd(1), fd(2)];
        self.event(1, What::Started { program: program.into(), open });
    }

    fn event(&mut self, task: i32, what: What) {
        self.time_ns += 1_000_000;
        self.model.apply(&Event { time_ns: self.time_ns, task: Tid(task), what });
    }

    fn open(&mut self, task: i32, fds: &[OpenFd], stack: u32) {
        self.opened(task, "openat", fds, None, stack);
    }

    fn opened(
        &mut self,
        task: i32,
        call: &'static str,
        fds: &[OpenFd],
        of: Option<i32>,
        stack: u32,
    ) {
        let opened =
            Opened { call, fds: fds.to_vec(), duplicate_of: of, used: None, stack: StackId(stack) };
        self.event(task, What::Opened(opened));
    }

    fn close(&mut self, task: i32, number: i32, stack: u32) {
        let is_open = self.model.is_open(Tid(task), number) == Some(true);
        let error = (!is_open).then_some(EBADF);
        self.closed(task, number, error, false, stack);
    }

    fn closed(
        &mut self,
        task: i32,
        number: i32,
        error: Option<i32>,
        is_quarantined: bool,
        stack: u32,
    ) {
        let stack = StackId(stack);
        self.event(task, What::Closed { number, error, is_quarantined, stack });
    }

    fn fork(&mut self, parent: i32, child: i32) {
        self.created(parent, child, false, false);
    }

    fn thread(&mut self, parent: i32, child: i32) {
        self.created(parent, child, true, true);
    }

    fn created(&mut self, parent: i32, child: i32, is_thread: bool, shares_files: bool) {
        self.event(parent, What::Created { child: Tid(child), is_thread, shares_files });
    }

    fn exec(&mut self, task: i32, program: &str, open: &[i32]) {
        self.exec_told(task, program, open, [&[], &[]]);
    }

    /// `told`: the numbers that the arguments name, and those that occur in them.
    fn exec_told(&mut self, task: i32, program: &str, open: &[i32], told: [&[i32]; 2]) {
        let open = open.iter().map(|number| fd(*number)).collect();
        let (former, program) = (Tid(task), program.into());
        let [mentioned, hinted] = told.map(<[i32]>::to_vec);
        self.event(task, What::Executed { former, program, open, mentioned, hinted });
    }

    fn end(&mut self, task: i32) {
        self.event(task, What::Ending { open: None, status: 0 });
        self.event(task, What::Ended);
    }

    fn findings(&self) -> Vec<Finding> {
        judge(&self.model)
    }

    fn kinds(&self) -> Vec<Kind> {
        self.findings().iter().map(|finding| finding.kind).collect()
    }

    fn open_numbers(&self, task: i32) -> Vec<i32> {
        self.model.open_numbers(Tid(task))
    }
}
