//! The auto traits of the public types: handles can be sent and shared, errors fit into
//! `Box<dyn Error + Send + Sync>`, and both can cross `catch_unwind`.
//!
//! The compiler derives these traits from private fields, so a change inside can remove one. A type is
//! listed under what it has; a type that has less is listed with the reason.

use std::error::Error;
use std::panic::{RefUnwindSafe, UnwindSafe};

use echown::net::{
    Address, Endpoint, File, KeepAlive, Listener, ListenerOptions, PipeReader, PipeWriter,
    ReadHalf, Stream, UdpSocket, WriteHalf,
};
use echown::ownership::graph::{Edge, Node, TrackedArc};
use echown::ownership::{
    self, ErrorKind, Half, JoinFlatError, LeakReport, Level, Offer, Owned, Panic, Policy, Promise,
    Refused, Registry, RegistryBuilder, RegistrySummary, Report, Resource, RunInlineError,
    TaskError, UnjoinedChildren,
};
use echown::pool::{Orphans, Pool, PoolBuilder, Scope, ScopeError, SpawnError};
use echown::report::InputError;
use echown::server::{ControlHandle, Server, ServerError, ServerSettings, ServerSummary};
use echown::test;
use echown::{echo, faults, frame};

fn shared<T: Send + Sync + UnwindSafe + RefUnwindSafe>() {}
fn sent_and_shared<T: Send + Sync>() {}
fn sent<T: Send>() {}
fn sent_error<T: Error + Send + Sync + 'static>() {}
fn error<T: Error + Send + Sync + UnwindSafe + RefUnwindSafe + 'static>() {}

#[test]
fn handles_can_be_sent_shared_and_unwound_through() {
    shared::<Registry>();
    shared::<Resource>();
    shared::<Owned<Vec<u8>>>();
    shared::<Half<std::os::fd::OwnedFd>>();
    shared::<Offer<Stream>>();
    shared::<Node>();
    shared::<Edge>();
    shared::<TrackedArc<u8>>();
    shared::<Listener>();
    shared::<ListenerOptions>();
    shared::<Stream>();
    shared::<ReadHalf>();
    shared::<WriteHalf>();
    shared::<UdpSocket>();
    shared::<File>();
    shared::<PipeReader>();
    shared::<PipeWriter>();
    shared::<(Address, Endpoint, KeepAlive)>();
    shared::<(Level, Policy, ErrorKind)>();
    shared::<(Report, LeakReport, RegistrySummary)>();
    shared::<(frame::Frame, frame::FrameDecoder)>();
    shared::<faults::FaultInjector>();
    shared::<(ServerSettings, ServerSummary)>();
    shared::<Promise<u8>>();
    shared::<Pool>();
    shared::<PoolBuilder>();
    shared::<ControlHandle>();
    shared::<echo::Plain>();
}

#[test]
fn types_with_functions_of_the_caller_can_be_sent() {
    // Not `RefUnwindSafe`: they contain the caller's functions or handlers, which may not be.
    sent_and_shared::<RegistryBuilder>();
    sent_and_shared::<Orphans<u8>>();
    sent_and_shared::<echo::callback::Callback>();
    // Not `Sync`: it receives events. All that uses it consumes it.
    sent::<Server>();
    // Not `Sync`: a scope belongs to the thread of its body.
    sent::<Scope<'_>>();
}

#[test]
fn errors_can_be_sent_and_shared() {
    error::<ownership::Error>();
    error::<Refused<Stream>>();
    error::<TaskError<u8>>();
    error::<RunInlineError<u8, (Stream, fn())>>();
    error::<ScopeError<u8>>();
    error::<frame::FrameError>();
    shared::<(Panic, UnjoinedChildren<u8>)>();
    // Not `UnwindSafe`: they contain an `io::Error` or another error as a trait object.
    sent_error::<JoinFlatError<u8, std::io::Error>>();
    sent_error::<SpawnError<fn()>>();
    sent_error::<InputError>();
    sent_error::<ServerError>();
}

#[test]
#[cfg(feature = "ci")]
fn the_error_of_a_file_returns_the_systems_error_as_its_source() {
    let file = echown::report::suppressions::read("/nonexistent".as_ref()).unwrap_err();
    let source = file.source().expect("the file cannot be opened");
    let cause = source.downcast_ref::<std::io::Error>().expect("the system's error");
    assert_eq!(cause.kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn an_error_returns_its_cause_as_its_source() {
    let pool = Pool::new();
    let released = ownership::own(1).unwrap();
    released.release().unwrap();
    let spawned = pool.spawn_with(released, |_| ()).unwrap_err();
    let cause = spawned.source().and_then(|source| source.downcast_ref::<ownership::Error>());
    assert_eq!(cause.map(ownership::Error::kind), Some(ErrorKind::UseAfterRelease));

    let scope = pool.scope(|scope| scope.spawn([], || panic!("the child's")).unwrap()).unwrap_err();
    let cause = scope.source().and_then(|source| source.downcast_ref::<TaskError<()>>());
    assert!(matches!(cause, Some(TaskError::Panicked(panic)) if panic.message() == "the child's"));
}
