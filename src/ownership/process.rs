//! Other processes in custodies: a descriptor that was received from one, shared with one, or handed
//! over to one.
//!
//! Passing a descriptor (`SCM_RIGHTS`) moves nothing: afterwards both processes have the open file
//! description. So the registry of the sender keeps the resource, marks it as shared, and its owner
//! closes it when the other process has confirmed that it took over.

// The program uses it, and the library does not.
#![cfg_attr(not(feature = "serve"), allow(dead_code))]

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use echown_report::{Event, Site, TaskId, TaskLabel};

use super::record::{Labelled, Record};
use super::resource::Resource;
use super::slot::PinPurpose;
use super::task;

/// Another process, as custodies name it. Its id is one that no task has.
#[derive(Clone, Debug)]
pub(crate) struct Process(Arc<TaskLabel>);

impl Process {
    /// The process with this id.
    pub(crate) fn new(process: u32) -> Process {
        Process(Arc::new(task::unused_label(&format!("process {process}"))))
    }

    /// The service manager, whose id says nothing.
    pub(crate) fn service_manager() -> Process {
        Process(Arc::new(task::unused_label("the service manager")))
    }
}

impl Labelled for Process {
    fn id(&self) -> TaskId {
        self.0.id
    }

    fn label(&self) -> TaskLabel {
        TaskLabel::clone(&self.0)
    }

    fn shared_label(&self) -> Arc<TaskLabel> {
        Arc::clone(&self.0)
    }
}

impl Resource {
    /// Lends the descriptor for one call that does not block, from any task: it is not closed meanwhile.
    /// `None` if it is no descriptor, is closed, or was replaced.
    pub(crate) fn lend<R>(&self, call: impl FnOnce(BorrowedFd<'_>) -> R) -> Option<R> {
        let record = self.record();
        let number = record.descriptor?.number;
        loop {
            let word = record.slot.load();
            let Some(_pin) = record.slot.pin_guard(word.owner(), PinPurpose::Inspect) else {
                if record.slot.load() == word {
                    return None;
                }
                // It moved between the two calls.
                continue;
            };
            return record.replacement().is_none().then(|| number.lend(call));
        }
    }

    /// Records that its descriptor came from another process, which has it, too.
    #[track_caller]
    pub(crate) fn received_from(&self, process: &Process) {
        let record = self.record();
        record.set_shared();
        let me = task::current(&record.registry);
        record.record_step(Event::Received, Some(process), Some(&me), Site::here());
    }

    /// Records that its descriptor is about to be sent to another process. From now on it is not shut
    /// down any more.
    #[track_caller]
    pub(crate) fn share_with(&self, process: &Process) {
        self.record().set_shared();
        self.record_passing(Event::Shared, process, Site::here());
    }

    /// Records that another process has taken over.
    #[track_caller]
    pub(crate) fn hand_over_to(&self, process: &Process) {
        self.record().set_handed_over();
        self.record_passing(Event::HandedOver, process, Site::here());
    }

    /// Whether another process has its descriptor, too.
    pub(crate) fn is_shared(&self) -> bool {
        self.record().is_shared()
    }

    fn record_passing(&self, event: Event, process: &Process, site: Site) {
        let record = self.record();
        match task::find(record.slot.load().owner()) {
            Some(owner) => record.record_step(event, Some(&owner), Some(process), site),
            None => record.record_step(event, None, Some(process), site),
        }
    }

    fn record(&self) -> &Record {
        self.managed().record()
    }
}

#[cfg(all(test, not(echown_loom)))]
mod tests {
    use super::*;
    use crate::ownership::Registry;

    #[test]
    fn the_custody_of_a_passed_descriptor_names_the_other_process() {
        let registry = Registry::new();
        let _entered = registry.enter();
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        let owned = registry.own_fd(reader).unwrap();
        let resource = owned.resource();
        let process = Process::new(4711);
        resource.received_from(&process);
        resource.share_with(&process);
        assert!(!owned.handle().record().is_handed_over());
        resource.hand_over_to(&process);
        assert!(owned.handle().record().is_handed_over());
        let steps: Vec<String> =
            owned.describe().custody.iter().map(|step| step.to_string()).collect();
        for (step, start) in steps.iter().zip([
            "acquired by task ",
            "received from process 4711 by task ",
            "shared with process 4711 by task ",
            "handed over to process 4711 by task ",
        ]) {
            assert!(step.starts_with(start), "{step}");
        }
    }

    #[test]
    fn a_descriptor_is_lent_to_another_task_while_it_is_open() {
        let registry = Registry::new();
        let _entered = registry.enter();
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        let owned = registry.own_fd(reader).unwrap();
        let resource = owned.resource();
        let lent = std::thread::spawn({
            let resource = resource.clone();
            move || resource.lend(|fd| rustix::io::fcntl_getfd(fd).is_ok())
        });
        assert_eq!(lent.join().unwrap(), Some(true));
        owned.release().unwrap();
        assert_eq!(resource.lend(|_| ()), None);
    }
}
