//! Benchmark of the checker's single operations, compared with the calls that they precede.
//!
//! `cargo bench --bench cost`; `benches/README.md` has figures and their limits. Everything runs on
//! one thread and without contention.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::{LazyLock, Mutex};
use std::thread::{self, ThreadId};

use divan::{Bencher, black_box};
use echown::net::Stream;
use echown::ownership::{Level, Lot, Owned, Registry};
use rustix::net::{AddressFamily, SocketType, socket};

fn main() {
    divan::main();
}

/// Other entries in the registry or the map: a server with some clients.
const NEIGHBOURS: i32 = 1000;

fn at(level: Level) -> Registry {
    Registry::builder().level(level).build()
}

mod check {
    //! The check before a read or a write.

    use super::*;

    #[divan::bench(args = [Level::Off, Level::On])]
    fn of_a_value(bencher: Bencher<'_, '_>, level: &Level) {
        let value = at(*level).own(0u64).expect("a running task can own");
        bencher.bench_local(|| black_box(&value).check());
    }

    /// Level `full` also asks the kernel for the socket's identity.
    #[divan::bench(args = [Level::Off, Level::On, Level::Full])]
    fn of_a_socket(bencher: Bencher<'_, '_>, level: &Level) {
        let socket = at(*level).own_fd(new_socket()).expect("a running task can own");
        bencher.bench_local(|| black_box(&socket).check());
    }

    /// The comparison: the check of a program without this crate.
    #[divan::bench]
    fn by_a_locked_map(bencher: Bencher<'_, '_>) {
        static OWNERS: LazyLock<Mutex<HashMap<RawFd, ThreadId>>> = LazyLock::new(|| {
            (0..NEIGHBOURS)
                .map(|number| (number, thread::current().id()))
                .collect::<HashMap<_, _>>()
                .into()
        });
        bencher.bench_local(|| {
            let owners = OWNERS.lock().expect("nobody panics here");
            owners.get(&black_box(7)) == Some(&thread::current().id())
        });
    }
}

/// For comparison: the cheapest system call on a descriptor.
#[divan::bench]
fn a_bare_system_call() -> Option<rustix::process::Pid> {
    rustix::process::getppid()
}

#[divan::bench(args = [Level::Off, Level::On])]
fn with(bencher: Bencher<'_, '_>, level: &Level) {
    let value = at(*level).own(0u64).expect("a running task can own");
    bencher.bench_local(|| black_box(&value).with(|value| *value += 1));
}

#[divan::bench_group(sample_size = 200)]
mod value {
    //! The life of a value that is not a descriptor.

    use super::*;

    #[divan::bench(args = [Level::Off, Level::On, Level::Full])]
    fn own_release(bencher: Bencher<'_, '_>, level: &Level) {
        let registry = at(*level);
        bencher.bench_local(|| {
            let value = registry.own(black_box(0u64)).expect("a running task can own");
            value.release()
        });
    }

    /// A task that is given something and ends; includes the start and the end of the task.
    #[divan::bench(args = [Level::Off, Level::On, Level::Full])]
    fn own_give_release(bencher: Bencher<'_, '_>, level: &Level) {
        let registry = at(*level);
        bencher.bench_local(|| {
            let value = registry.own(black_box(0u64)).expect("a running task can own");
            registry.run_inline("child", [value.resource()], || value.release())
        });
    }

    /// The part of the task itself, given nothing.
    #[divan::bench(args = [Level::Off, Level::On])]
    fn a_task_alone(bencher: Bencher<'_, '_>, level: &Level) {
        let registry = at(*level);
        bencher.bench_local(|| registry.run_inline("child", [], || black_box(0u64)));
    }
}

#[divan::bench_group(sample_size = 200)]
mod park_unpark {
    //! A connection that waits for input, and the worker that serves it.

    use super::*;

    /// Other connections that wait in the lot.
    fn others<const OTHERS: u64>(registry: &Registry, lot: &Lot) -> Vec<Owned<u64>> {
        let park = |number| {
            let other = registry.own(number).expect("a running task can own");
            assert!(other.park(lot).expect("the owner can park"));
            other
        };
        (0..OTHERS).map(park).collect()
    }

    /// The task of the lot is the worker.
    #[divan::bench(args = [Level::Off, Level::On, Level::Full], consts = [0, 10_000])]
    fn in_its_own_lot<const OTHERS: u64>(bencher: Bencher<'_, '_>, level: &Level) {
        let registry = at(*level);
        let _entered = registry.enter();
        let lot = Lot::new();
        let _others = others::<OTHERS>(&registry, &lot);
        let value = registry.own(0u64).expect("a running task can own");
        bencher.bench_local(|| {
            let is_parked = value.park(&lot).expect("the owner can park");
            (is_parked, value.unpark(&lot).expect("a running task can unpark"))
        });
    }

    /// The worker is another task than the lot's.
    #[divan::bench(args = [Level::Off, Level::On, Level::Full], consts = [0, 10_000])]
    fn in_the_parents_lot<const OTHERS: u64>(bencher: Bencher<'_, '_>, level: &Level) {
        let registry = at(*level);
        let _entered = registry.enter();
        let lot = Lot::new();
        let _others = others::<OTHERS>(&registry, &lot);
        let value = registry.own(0u64).expect("a running task can own");
        let child = registry.run_inline("child", [value.resource()], || {
            bencher.bench_local(|| {
                let is_parked = value.park(&lot).expect("the owner can park");
                (is_parked, value.unpark(&lot).expect("a running task can unpark"))
            });
            value.release()
        });
        assert!(child.is_ok_and(|released| released.is_ok()), "the child got it and released it");
    }
}

#[divan::bench_group(sample_size = 50)]
mod socket {
    //! The life of a socket, from socket(2) to close(2).

    use super::*;

    #[divan::bench]
    fn plain_close(bencher: Bencher<'_, '_>) {
        bencher.bench_local(|| drop(black_box(new_socket())));
    }

    /// With a kind that is known, as for sockets that `net` opens and accepts.
    #[divan::bench(args = [Level::Off, Level::On, Level::Full])]
    fn own_release(bencher: Bencher<'_, '_>, level: &Level) {
        let registry = at(*level);
        let _entered = registry.enter();
        bencher.bench_local(|| {
            let socket = UnixStream::from(black_box(new_socket()));
            let stream = Stream::own(socket).expect("a running task can own");
            stream.release()
        });
    }

    /// The life of an accepted connection: owned, given to its task, released there.
    #[divan::bench(args = [Level::Off, Level::On, Level::Full])]
    fn own_give_release(bencher: Bencher<'_, '_>, level: &Level) {
        let registry = at(*level);
        let _entered = registry.enter();
        bencher.bench_local(|| {
            let socket = UnixStream::from(black_box(new_socket()));
            let stream = Stream::own(socket).expect("a running task can own");
            registry.run_inline("child", [stream.resource()], || stream.release())
        });
    }

    /// With an unknown kind, which takes a system call.
    #[divan::bench]
    fn own_any_kind_release(bencher: Bencher<'_, '_>) {
        let registry = at(Level::On);
        bencher.bench_local(|| {
            let socket = registry.own_fd(black_box(new_socket())).expect("a running task can own");
            socket.release()
        });
    }

    /// The comparison's bookkeeping: added to the map before use, removed before the close.
    #[divan::bench]
    fn into_and_out_of_a_locked_map(bencher: Bencher<'_, '_>) {
        let owners: Mutex<HashMap<RawFd, ThreadId>> = Mutex::default();
        bencher.bench_local(|| {
            let socket = black_box(new_socket());
            let number = socket.as_raw_fd();
            owners.lock().expect("nobody panics here").insert(number, thread::current().id());
            owners.lock().expect("nobody panics here").remove(&number);
        });
    }
}

fn new_socket() -> OwnedFd {
    socket(AddressFamily::UNIX, SocketType::STREAM, None).expect("there are descriptors left")
}
