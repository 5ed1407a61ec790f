//! Injected system call faults, in this process: a registry with a fault injector.

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::mpsc::channel;

use echown::faults::{Fault, FaultInjector};
use echown::net::{File, Listener, Stream, UdpSocket};
use echown::ownership::{ErrorKind as Refusal, Registry};
use echown::pool::Pool;
use echown::test;

/// A registry with fault injection enabled.
fn injecting(plan: &str) -> (Registry, Arc<FaultInjector>) {
    let injector = Arc::new(FaultInjector::new(plan, 1).unwrap());
    let registry = Registry::builder().inject_faults(&injector).sink(|_| {}).build();
    injector.begin();
    (registry, injector)
}

#[test]
fn no_fault_is_injected_without_an_injector_or_before_it_is_enabled() {
    let injector = Arc::new(FaultInjector::new("read=1,write=1,close=1", 1).unwrap());
    let registry = Registry::builder().inject_faults(&injector).build();
    let _entered = registry.enter();
    let (mut ours, mut theirs) = Stream::pair().unwrap();
    ours.write_all(b"x").unwrap();
    theirs.read_exact(&mut [0]).unwrap();
    assert_eq!(injector.injected_total(), 0);
}

#[test]
fn a_failed_connect_leaves_nothing_open_and_an_interrupted_one_succeeds() {
    let listener = Listener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (registry, injector) = injecting("connect=1");
    let _entered = registry.enter();
    for _ in 0..20 {
        let error = Stream::connect_to(&address).unwrap_err();
        let expected = [
            ErrorKind::ConnectionRefused,
            ErrorKind::NetworkUnreachable,
            ErrorKind::AddrNotAvailable,
        ];
        assert!(expected.contains(&error.kind()), "{error}");
    }
    assert_eq!(injector.injected(Fault::Connect), 20);
    assert!(registry.snapshot().resources.is_empty(), "each socket was closed");
    let (registry, injector) = injecting("interrupt=0.5");
    let _entered = registry.enter();
    for _ in 0..20 {
        drop(Stream::connect_to(&address).unwrap());
    }
    assert!(injector.injected(Fault::Interrupt) > 0);
}

#[test]
fn a_failed_thread_start_returns_the_job_and_its_resources() {
    let (registry, _) = injecting("thread=1");
    let _entered = registry.enter();
    let pool = Pool::builder().registry(&registry).build();
    let (ours, _theirs) = Stream::pair().unwrap();
    let give = [ours.resource()];
    let rejected = pool.spawn(give, move || drop(ours)).unwrap_err();
    assert!(rejected.is_exhausted());
    assert!(rejected.to_string().contains("of the pool: Resource temporarily"), "{rejected}");
    drop(rejected.into_job());
    assert_eq!(registry.snapshot().resources.len(), 1, "only the registered resource was released");
}

#[test]
fn a_close_that_fails_has_closed_and_is_not_retried() {
    let (registry, injector) = injecting("close=1");
    let _entered = registry.enter();
    let mut reported = 0;
    for _ in 0..40 {
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let ours = Stream::own(ours).unwrap();
        if let Err(error) = ours.release() {
            assert_eq!(error.kind(), Refusal::FinalizerFailed, "{error}");
            reported += 1;
        }
        assert_eq!(theirs.read(&mut [0]).unwrap(), 0, "the peer reads the end: it is closed");
        assert_eq!(ours.release().unwrap_err().kind(), Refusal::DoubleRelease);
    }
    assert_eq!(injector.injected(Fault::Close), 40);
    assert!((5..35).contains(&reported), "only interrupted closes report no error: {reported}");
}

#[test]
fn file_io_is_only_cut_short_and_datagrams_are_not_affected() {
    let (registry, injector) = injecting("read=1,write=1,short=1");
    let _entered = registry.enter();
    let path = std::env::temp_dir().join(format!("echown-faults-{}", std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(true);
    let mut file = File::open_with(&path, options).unwrap();
    file.write_all(b"all of it").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"all of it");
    std::fs::remove_file(&path).unwrap();
    assert!(injector.injected(Fault::Short) > 1);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(socket.local_addr().unwrap()).unwrap();
    assert_eq!(socket.send(b"whole").unwrap(), 5);
    assert_eq!(socket.recv(&mut [0; 10]).unwrap(), 5);
    assert_eq!(injector.injected(Fault::Read) + injector.injected(Fault::Write), 0);
}

#[test]
fn an_accept_that_would_block_waits_and_returns_one_connection_per_client() {
    let (registry, injector) = injecting("again=0.5,interrupt=0.5");
    let _entered = registry.enter();
    let listener = Listener::bind("127.0.0.1:0").unwrap();
    let (_keep, stop) = {
        let (reader, writer) = echown::net::pipe().unwrap();
        (writer, reader)
    };
    let address = listener.local_addr().unwrap();
    let (to_test, from_child) = channel();
    let clients = std::thread::spawn(move || {
        for _ in 0..50 {
            let client = Stream::connect_to(&address).unwrap();
            from_child.recv().unwrap();
            drop(client);
        }
    });
    for _ in 0..50 {
        assert!(listener.accept_or_stop(&stop).unwrap().is_some());
        to_test.send(()).unwrap();
    }
    clients.join().unwrap();
    assert!(listener.try_accept().unwrap().is_none());
    assert!(injector.injected(Fault::Again) > 5 && injector.injected(Fault::Interrupt) > 5);
}
