//! The model against a plain file-table model, under random programs.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use proptest::prelude::*;

use super::{EBADF, cloexec, fd};
use crate::event::{Event, OpenFd, Opened, Tid, What};
use crate::event_log::{EventReader, EventWriter};
use crate::finding::{Finding, Kind};
use crate::judge::judge;
use crate::model::Model;
use crate::stack::{Frame, StackId, Stacks};

/// A step of a random program. Tasks and numbers are chosen among those that exist.
#[derive(Clone, Debug)]
enum Action {
    Fork { task: usize, is_thread: bool, shares_files: bool },
    Exec { task: usize },
    Open { task: usize, is_cloexec: bool },
    Pipe { task: usize },
    Dup { task: usize, of: usize, from: i32 },
    Dup2 { task: usize, of: usize, to: i32 },
    Close { task: usize, number: i32 },
    CloseRange { task: usize, first: u32, last: u32, sets_cloexec: bool },
    SetCloexec { task: usize, number: usize, is_set: bool },
    Unshare { task: usize },
    Exit { task: usize },
}

fn action() -> impl Strategy<Value = Action> {
    let task = 0..8usize;
    let flag = any::<bool>;
    prop_oneof![
        2 => (task.clone(), flag(), flag()).prop_map(|(task, is_thread, shares_files)| {
            Action::Fork { task, is_thread, shares_files }
        }),
        1 => task.clone().prop_map(|task| Action::Exec { task }),
        6 => (task.clone(), flag()).prop_map(|(task, is_cloexec)| Action::Open { task, is_cloexec }),
        1 => task.clone().prop_map(|task| Action::Pipe { task }),
        2 => (task.clone(), 0..8usize, 0..20i32)
            .prop_map(|(task, of, from)| Action::Dup { task, of, from }),
        2 => (task.clone(), 0..8usize, 0..20i32)
            .prop_map(|(task, of, to)| Action::Dup2 { task, of, to }),
        8 => (task.clone(), 0..20i32).prop_map(|(task, number)| Action::Close { task, number }),
        1 => (task.clone(), 0..20u32, 0..30u32, flag()).prop_map(|(task, first, length, sets_cloexec)| {
            Action::CloseRange { task, first, last: first + length, sets_cloexec }
        }),
        1 => (task.clone(), 0..8usize, flag())
            .prop_map(|(task, number, is_set)| Action::SetCloexec { task, number, is_set }),
        1 => task.clone().prop_map(|task| Action::Unshare { task }),
        1 => task.prop_map(|task| Action::Exit { task }),
    ]
}

/// The plain model of one table: close-on-exec by number, and the numbers that its tasks closed.
#[derive(Clone, Debug, Default)]
struct PlainTable {
    open: BTreeMap<i32, bool>,
    own_closed: BTreeSet<i32>,
}

impl PlainTable {
    fn lowest_free(&self, from: i32) -> i32 {
        (from..).find(|number| !self.open.contains_key(number)).unwrap()
    }

    fn list(&self) -> Vec<OpenFd> {
        let entry =
            |(number, flag): (&i32, &bool)| if *flag { cloexec(*number) } else { fd(*number) };
        self.open.iter().map(entry).collect()
    }
}

struct PlainTask {
    tid: i32,
    pid: i32,
    table: Rc<RefCell<PlainTable>>,
}

/// Runs actions on plain tables and says what a tracer would report.
struct Kernel {
    tasks: Vec<PlainTask>,
    next_tid: i32,
    events: Vec<Event>,
    double_closes: u64,
    stacks: Stacks,
}

impl Kernel {
    fn new() -> Kernel {
        let table = PlainTable {
            open: (0..3).map(|number| (number, false)).collect(),
            own_closed: BTreeSet::new(),
        };
        let open = table.list();
        let table = Rc::new(RefCell::new(table));
        let tasks = vec![PlainTask { tid: 1, pid: 1, table }];
        let stacks = Stacks::new();
        let events = Vec::new();
        let mut kernel = Kernel { tasks, next_tid: 2, events, double_closes: 0, stacks };
        kernel.event(1, What::Started { program: "/bin/p".into(), open });
        kernel
    }

    fn event(&mut self, tid: i32, what: What) {
        let time_ns = self.events.len() as u64 * 1000;
        self.events.push(Event { time_ns, task: Tid(tid), what });
    }

    /// A stack that no other call has, so that no calls look like a loop.
    fn stack(&mut self) -> StackId {
        let address = self.events.len() as u64;
        self.stacks.intern(&[Frame::Generated { process: 1, address }])
    }

    fn run(&mut self, action: &Action) {
        let (Action::Fork { task, .. }
        | Action::Exec { task }
        | Action::Open { task, .. }
        | Action::Pipe { task }
        | Action::Dup { task, .. }
        | Action::Dup2 { task, .. }
        | Action::Close { task, .. }
        | Action::CloseRange { task, .. }
        | Action::SetCloexec { task, .. }
        | Action::Unshare { task }
        | Action::Exit { task }) = action;
        if self.tasks.is_empty() {
            return;
        }
        let index = task % self.tasks.len();
        let PlainTask { tid, pid, ref table } = self.tasks[index];
        let table = Rc::clone(table);
        match *action {
            Action::Fork { is_thread, shares_files, .. } => {
                self.fork(tid, pid, &table, is_thread, shares_files || is_thread);
            }
            Action::Exec { .. } => self.exec(index),
            Action::Unshare { .. } => {
                if Rc::strong_count(&table) > 2 {
                    let own = table.borrow().clone();
                    self.tasks[index].table =
                        Rc::new(RefCell::new(PlainTable { own_closed: BTreeSet::new(), ..own }));
                }
                self.event(tid, What::FilesUnshared);
            }
            Action::Exit { .. } => {
                self.tasks.remove(index);
                let is_last = Rc::strong_count(&table) == 1;
                let open = is_last.then(|| table.borrow().list());
                self.event(tid, What::Ending { open, status: 0 });
                self.event(tid, What::Ended);
            }
            _ => self.call(tid, &mut table.borrow_mut(), action),
        }
    }

    fn fork(
        &mut self,
        parent: i32,
        pid: i32,
        table: &Rc<RefCell<PlainTable>>,
        is_thread: bool,
        shares_files: bool,
    ) {
        let tid = self.next_tid;
        self.next_tid += 1;
        let copied = || {
            let copy = PlainTable { own_closed: BTreeSet::new(), ..table.borrow().clone() };
            Rc::new(RefCell::new(copy))
        };
        let table = if shares_files { Rc::clone(table) } else { copied() };
        let pid = if is_thread { pid } else { tid };
        self.tasks.push(PlainTask { tid, pid, table });
        self.event(parent, What::Created { child: Tid(tid), is_thread, shares_files });
    }

    fn exec(&mut self, index: usize) {
        let PlainTask { tid, pid, ref table } = self.tasks[index];
        let mut own = table.borrow().clone();
        own.open.retain(|_, is_cloexec| !*is_cloexec);
        own.own_closed.clear();
        let open = own.list();
        self.tasks.retain(|task| task.pid != pid);
        self.tasks.push(PlainTask { tid: pid, pid, table: Rc::new(RefCell::new(own)) });
        let (former, program) = (Tid(tid), "/bin/p".into());
        let (mentioned, hinted) = (Vec::new(), Vec::new());
        self.event(pid, What::Executed { former, program, open, mentioned, hinted });
    }

    fn call(&mut self, tid: i32, table: &mut PlainTable, action: &Action) {
        let stack = self.stack();
        let chosen = |index: usize| -> Option<i32> {
            table.open.keys().nth(index % table.open.len().max(1)).copied()
        };
        let (call, numbers, is_cloexec, duplicate_of) = match *action {
            Action::Open { is_cloexec, .. } => {
                ("openat", vec![table.lowest_free(0)], is_cloexec, None)
            }
            Action::Pipe { .. } => {
                let first = table.lowest_free(0);
                ("pipe", vec![first, table.lowest_free(first + 1)], false, None)
            }
            Action::Dup { of, from, .. } => match chosen(of) {
                Some(of) => ("fcntl", vec![table.lowest_free(from)], false, Some(of)),
                None => return,
            },
            Action::Dup2 { of, to, .. } => match chosen(of) {
                Some(of) => ("dup2", vec![to], table.open[&of] && of == to, Some(of)),
                None => return,
            },
            Action::Close { number, .. } => {
                let error = table.open.remove(&number).is_none().then_some(EBADF);
                if error.is_none() {
                    table.own_closed.insert(number);
                } else if table.own_closed.contains(&number) {
                    self.double_closes += 1;
                }
                let what = What::Closed { number, error, is_quarantined: false, stack };
                return self.event(tid, what);
            }
            Action::CloseRange { first, last, sets_cloexec, .. } => {
                let numbers: Vec<i32> = table.open.keys().copied().collect();
                for number in numbers.into_iter().filter(|n| (first..=last).contains(&(*n as u32)))
                {
                    if sets_cloexec {
                        table.open.insert(number, true);
                        continue;
                    }
                    table.open.remove(&number);
                    // A long range is a sweep, after which a close is no mistake.
                    if last - first < 8 {
                        table.own_closed.insert(number);
                    } else {
                        table.own_closed.remove(&number);
                    }
                }
                return self.event(tid, What::ClosedRange { first, last, sets_cloexec, stack });
            }
            Action::SetCloexec { number, is_set, .. } => match chosen(number) {
                Some(number) => {
                    table.open.insert(number, is_set);
                    return self.event(tid, What::CloexecSet { number, is_set });
                }
                None => return,
            },
            _ => return,
        };
        for number in &numbers {
            table.open.insert(*number, is_cloexec);
            table.own_closed.remove(number);
        }
        let make = if is_cloexec { cloexec } else { fd };
        let fds = numbers.into_iter().map(make).collect();
        self.event(tid, What::Opened(Opened { call, fds, duplicate_of, used: None, stack }));
    }

    fn assert_equal(&self, model: &mut Model) {
        for task in &self.tasks {
            let table = task.table.borrow();
            let numbers: Vec<i32> = table.open.keys().copied().collect();
            assert_eq!(model.open_numbers(Tid(task.tid)), numbers, "task {}", task.tid);
            for (number, is_cloexec) in &table.open {
                assert_eq!(model.is_cloexec(Tid(task.tid), *number), Some(*is_cloexec));
            }
            for from in [0, 7] {
                let free = table.lowest_free(from);
                assert_eq!(model.lowest_free(Tid(task.tid), from), Some(free));
            }
            assert_eq!(
                model.is_sole_user(Tid(task.tid)),
                Rc::strong_count(&task.table) == 1,
                "task {}",
                task.tid
            );
        }
        let coverage = model.coverage();
        assert_eq!((coverage.mismatches.count, coverage.gaps.len()), (0, 0), "{coverage:?}");
    }
}

/// The findings without the numbers of stacks, which a reader of recorded events may change.
fn replayed(events: &[Event], stacks: &Stacks) -> Vec<Finding> {
    let mut writer = EventWriter::new(Vec::new()).unwrap();
    for event in events {
        writer.write(event, stacks).unwrap();
    }
    let lines = writer.into_inner();
    let mut reader = EventReader::new(&lines[..]);
    // The same stacks, so that equal stacks have equal numbers.
    let mut known = Stacks::new();
    for id in 1.. {
        let frames = stacks.frames(StackId(id));
        if frames.is_empty() {
            break;
        }
        known.intern(frames);
    }
    let mut model = Model::new();
    while let Some(event) = reader.next_event(&mut known).unwrap() {
        model.apply(&event);
    }
    judge(&model)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn the_model_has_the_tables_and_double_closes_of_a_plain_one(
        actions in prop::collection::vec(action(), 1..150),
    ) {
        let mut kernel = Kernel::new();
        let mut model = Model::new();
        let mut applied = 0;
        for action in &actions {
            kernel.run(action);
            for event in &kernel.events[applied..] {
                model.apply(event);
            }
            applied = kernel.events.len();
            kernel.assert_equal(&mut model);
        }
        let findings = judge(&model);
        let double = findings.iter().filter(|finding| finding.kind == Kind::DoubleClose);
        prop_assert_eq!(double.map(|finding| finding.count).sum::<u64>(), kernel.double_closes);
        prop_assert_eq!(&replayed(&kernel.events, &kernel.stacks), &findings);
        prop_assert!(findings.iter().all(|finding| finding.history.len() <= 8));
    }

    #[test]
    fn events_in_a_wrong_order_never_panic(
        actions in prop::collection::vec(action(), 1..60),
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..200),
    ) {
        let mut kernel = Kernel::new();
        actions.iter().for_each(|action| kernel.run(action));
        let mut model = Model::new();
        for index in order {
            model.apply(&kernel.events[index.index(kernel.events.len())]);
            let _ = model.lowest_free(Tid(1), 0);
        }
        let open = model.open_total();
        prop_assert!(open < 10_000);
        let _ = judge(&model);
    }
}
