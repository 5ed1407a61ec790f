//! Tests of `workers`, with barriers instead of waiting.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::*;

/// Much longer than any of these steps takes, so that only a real hang reaches it.
const DEADLINE: Duration = Duration::from_secs(20);

/// No address space has room for two such stacks, so the system rejects every start.
const IMPOSSIBLE_STACK_BYTES: usize = 1 << 47;

fn config(limit: usize, queue: usize, keep_idle: usize) -> Config {
    let (name, stack_bytes) = ("worker".to_owned(), 128 * 1024);
    Config { name, stack_bytes, limit, queue, keep_idle, start_faults: StartFaults::default() }
}

/// Yields until `done` returns true.
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < DEADLINE, "never happened: {what}");
        thread::yield_now();
    }
}

/// `(size, idle, running, queued)`
fn counts(workers: &Workers) -> (usize, usize, usize, usize) {
    let state = workers.shared.lock();
    (state.size(), state.idle(), state.running(), state.waiting())
}

/// Occupies `count` threads, each until its sender is dropped.
fn occupy(workers: &Workers, count: usize) -> Vec<Sender<()>> {
    (0..count)
        .map(|_| {
            let (end, ended) = channel::<()>();
            let job = move || while ended.recv().is_ok() {};
            workers.execute(job).expect("there is room");
            end
        })
        .collect()
}

fn run(workers: &Workers) -> Receiver<thread::ThreadId> {
    let (sender, receiver) = channel();
    let job = move || sender.send(thread::current().id()).expect("the test receives");
    workers.execute(job).expect("there is room");
    receiver
}

/// Threads of this process with `name`; the kernel keeps 15 bytes of it.
#[cfg(target_os = "linux")]
fn threads_named(name: &str) -> usize {
    std::fs::read_dir("/proc/self/task")
        .expect("this process has threads")
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|comm| comm.trim_end() == name)
        .count()
}

#[test]
fn no_thread_is_started_before_the_first_job() {
    let workers = Workers::new(config(8, 0, 1));
    assert_eq!(counts(&workers), (0, 0, 0, 0));
}

#[test]
fn it_grows_by_one_thread_for_each_job_that_finds_no_idle_thread() {
    let workers = Workers::new(config(8, 0, 4));
    let mut ends = Vec::new();
    for busy in 1..=4 {
        ends.extend(occupy(&workers, 1));
        assert_eq!(counts(&workers), (busy, 0, busy, 0));
    }
    drop(ends);
    until("all idle", || counts(&workers) == (4, 4, 0, 0));
}

#[test]
fn an_idle_thread_is_reused() {
    let workers = Workers::new(config(8, 0, 1));
    let first = run(&workers).recv().expect("the job runs");
    until("idle", || workers.idle() == 1);
    let second = run(&workers).recv().expect("the job runs");
    assert_eq!(first, second);
    assert_eq!(workers.size(), 1);
}

#[test]
fn threads_have_the_configured_name_without_what_would_panic() {
    let mut config = config(1, 0, 1);
    config.name = "a\0b".to_owned();
    let workers = Workers::new(config);
    let (sender, receiver) = channel();
    let job = move || sender.send(thread::current().name().map(str::to_owned));
    workers.execute(move || drop(job())).expect("there is room");
    assert_eq!(receiver.recv().expect("the job runs").as_deref(), Some("a?b"));
}

#[test]
fn at_the_limit_the_job_comes_back_with_the_limit_in_the_error() {
    let workers = Workers::new(config(2, 0, 1));
    let ends = occupy(&workers, 2);
    let runs = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&runs);
    let job = move || {
        seen.fetch_add(1, Ordering::SeqCst);
    };
    let rejected = workers.execute(job).expect_err("the limit is 2");
    assert_eq!(
        rejected.to_string(),
        "failed to run the job: no free thread: all of the pool's limit of 2 threads are busy; \
         queued jobs: 0"
    );
    assert_eq!(runs.load(Ordering::SeqCst), 0);
    (rejected.job)();
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    drop(ends);
    until("room again", || workers.idle() > 0);
    run(&workers).recv().expect("the job runs");
}

#[test]
fn a_system_limit_below_the_configured_one_is_named() {
    let system_limit = ThreadLimit { threads: 1, limit: "vm.max_map_count", value: 64, taken: 0 };
    let headroom = Headroom::new(&ThreadLimits::default());
    let workers = Workers::with_limits(system_limit, headroom, config(100, 0, 1));
    assert_eq!(workers.limit(), 1);
    let _end = occupy(&workers, 1);
    let rejected = workers.execute(|| {}).expect_err("the system_limit is 1");
    assert_eq!(
        rejected.reason.to_string(),
        "no free thread: all of the system's limit of 1 thread (vm.max_map_count is 64, a thread takes \
         4 mappings) are busy; queued jobs: 0"
    );
}

#[test]
fn a_limit_of_zero_rejects_jobs_even_with_a_queue() {
    let workers = Workers::new(config(0, 8, 1));
    let rejected = workers.execute(|| {}).expect_err("no thread would run it");
    assert!(matches!(rejected.reason, NoThreadReason::PoolLimit { threads: 0, .. }));
}

#[test]
fn a_failed_start_is_an_error_with_the_reason_and_counts_no_thread() {
    let mut config = config(8, 8, 1);
    config.stack_bytes = IMPOSSIBLE_STACK_BYTES;
    let workers = Workers::new(config);
    for _ in 0..2 {
        let rejected = workers.execute(|| {}).expect_err("no such stack");
        let NoThreadReason::StartFailed { threads: 0, error } = &rejected.reason else {
            panic!("expected a rejected start, got {rejected:?}");
        };
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory, "{error:?}");
        let wanted = "failed to run the job: failed to start thread 1 of the pool: ";
        assert!(rejected.to_string().starts_with(wanted), "{rejected}");
        assert_eq!(counts(&workers), (0, 0, 0, 0));
    }
}

#[test]
fn after_a_failed_start_the_job_is_queued_for_the_existing_threads() {
    let mut workers = Workers::new(config(8, 1, 1));
    let ends = occupy(&workers, 1);
    workers.config.stack_bytes = IMPOSSIBLE_STACK_BYTES;
    let (sender, receiver) = channel();
    let number = |number| {
        let sender = sender.clone();
        move || sender.send(number).expect("the test receives")
    };
    workers.execute(number(1)).expect("there is room in the queue");
    assert_eq!(counts(&workers), (1, 0, 1, 1));
    let rejected = workers.execute(|| {}).expect_err("the queue is full");
    assert!(matches!(rejected.reason, NoThreadReason::StartFailed { threads: 1, .. }));

    // A start that succeeds again serves the job that waits first.
    workers.config.stack_bytes = 128 * 1024;
    workers.execute(number(2)).expect("there is room to grow");
    assert_eq!([receiver.recv(), receiver.recv()], [Ok(1), Ok(2)]);
    drop(ends);
}

#[test]
fn the_queue_takes_what_was_configured_and_no_more_in_order() {
    let workers = Workers::new(config(1, 2, 1));
    let ends = occupy(&workers, 1);
    let (sender, receiver) = channel();
    for number in [1, 2] {
        let sender = sender.clone();
        let job = move || sender.send(number).expect("the test receives");
        workers.execute(job).expect("there is room in the queue");
    }
    assert_eq!(counts(&workers), (1, 0, 1, 2));
    let rejected = workers.execute(|| {}).expect_err("the queue holds 2");
    assert!(matches!(rejected.reason, NoThreadReason::PoolLimit { threads: 1, queued: 2 }));
    drop(ends);
    assert_eq!([receiver.recv(), receiver.recv()], [Ok(1), Ok(2)]);
    until("idle", || counts(&workers) == (1, 1, 0, 0));
}

#[test]
fn surplus_threads_end_at_once_when_idle_and_otherwise_beyond_twice_the_number_kept() {
    assert_eq!(surplus(4, 0, 4), 0);
    assert_eq!(surplus(5, 0, 4), 1);
    assert_eq!(surplus(8, 1, 4), 0);
    assert_eq!(surplus(9, 1, 4), 5);
    assert_eq!(surplus(9, 1, usize::MAX), 0);
}

#[test]
fn surplus_leaves_while_others_still_run() {
    let workers = Workers::new(config(16, 0, 2));
    let busy = occupy(&workers, 1);
    let ends = occupy(&workers, 4);
    drop(ends);
    until("4 idle", || workers.idle() == 4);
    drop(occupy(&workers, 5));
    // The fifth end finds 5 idle, more than twice 2.
    until("2 idle", || counts(&workers) == (3, 2, 1, 0));
    drop(busy);
    until("no job runs", || counts(&workers) == (2, 2, 0, 0));
}

#[test]
fn two_hundred_jobs_at_once_then_back_to_the_number_to_keep() {
    let mut config = config(200, 0, 4);
    config.name = "two-hundred".to_owned();
    let workers = Workers::new(config);
    for _ in 0..5 {
        let all = Arc::new(Barrier::new(201));
        for _ in 0..200 {
            let all = Arc::clone(&all);
            let job = move || {
                all.wait();
            };
            workers.execute(job).expect("the limit is 200");
        }
        assert_eq!(workers.size(), 200);
        all.wait();
        until("4 idle", || counts(&workers) == (4, 4, 0, 0));
    }
    #[cfg(target_os = "linux")]
    until("the kernel has only 4 threads", || threads_named("two-hundred") == 4);
    run(&workers).recv().expect("those that are left still work");
}

#[test]
fn a_panicking_job_keeps_the_accounting_and_its_thread() {
    let workers = Workers::new(config(1, 0, 1));
    let before = run(&workers).recv().expect("the job runs");
    for _ in 0..3 {
        until("idle", || counts(&workers) == (1, 1, 0, 0));
        let job = || panic!("this panic is part of the test");
        workers.execute(job).expect("there is room");
    }
    until("idle", || counts(&workers) == (1, 1, 0, 0));
    let after = run(&workers).recv().expect("the job runs");
    assert_eq!(before, after);
}

#[test]
fn a_panic_whose_payload_panics_is_contained_too() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("this panic is part of the test");
        }
    }
    let workers = Workers::new(config(1, 0, 1));
    let job = || std::panic::panic_any(Bomb);
    workers.execute(job).expect("there is room");
    until("idle", || counts(&workers) == (1, 1, 0, 0));
    run(&workers).recv().expect("the thread goes on");
}

#[test]
fn a_job_is_counted_until_what_it_captured_is_gone() {
    struct Slow(Receiver<()>, Sender<()>);
    impl Drop for Slow {
        fn drop(&mut self) {
            self.1.send(()).expect("the test receives");
            let _ = self.0.recv();
        }
    }
    let workers = Workers::new(config(1, 0, 1));
    let (end, ended) = channel();
    let (sender, receiver) = channel();
    let slow = Slow(ended, sender);
    workers.execute(move || drop(slow)).expect("there is room");
    receiver.recv().expect("the drop has begun");
    assert_eq!(counts(&workers), (1, 0, 1, 0));
    drop(end);
    until("idle", || counts(&workers) == (1, 1, 0, 0));
}

#[test]
fn on_drop_running_jobs_continue_and_queued_ones_are_dropped() {
    struct SendOnDrop(Sender<&'static str>);
    impl Drop for SendOnDrop {
        fn drop(&mut self) {
            self.0.send("dropped").expect("the test receives");
        }
    }
    let mut config = config(1, 2, 1);
    config.name = "on-drop".to_owned();
    let workers = Workers::new(config);
    let (sender, receiver) = channel();
    let (end, ended) = channel::<()>();
    let (begin, begun) = channel();
    let finish = sender.clone();
    let running = move || {
        begin.send(()).expect("the test receives");
        let _ = ended.recv();
        finish.send("finished").expect("the test receives");
    };
    workers.execute(running).expect("there is room");
    begun.recv().expect("the job runs");
    for _ in 0..2 {
        let (waiting, ran) = (SendOnDrop(sender.clone()), sender.clone());
        let job = move || {
            ran.send("ran").expect("the test receives");
            drop(waiting);
        };
        workers.execute(job).expect("there is room in the queue");
    }
    drop(workers);
    // Dropped by the thread that dropped the workers, and before the running job ends.
    assert_eq!([receiver.try_recv(), receiver.try_recv()], [Ok("dropped"); 2]);
    assert!(receiver.try_recv().is_err());
    drop(end);
    assert_eq!(receiver.recv(), Ok("finished"));
    #[cfg(target_os = "linux")]
    until("no thread is left", || threads_named("on-drop") == 0);
}

#[cfg(target_os = "linux")]
#[test]
fn after_a_drop_each_thread_ends_with_its_own_job() {
    let mut config = config(2, 0, 2);
    config.name = "one-by-one".to_owned();
    let workers = Workers::new(config);
    let mut ends = occupy(&workers, 2);
    until("both have their names", || threads_named("one-by-one") == 2);
    drop(workers);
    ends.pop();
    until("one is left", || threads_named("one-by-one") == 1);
    ends.pop();
    until("none is left", || threads_named("one-by-one") == 0);
}

#[test]
fn a_panic_in_the_drop_of_a_queued_job_does_not_skip_the_others() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("this panic is part of the test");
        }
    }
    let workers = Workers::new(config(1, 3, 1));
    let _ends = occupy(&workers, 1);
    let receiver = Arc::new(());
    for _ in 0..2 {
        let bomb = Bomb;
        let job = move || drop(bomb);
        workers.execute(job).expect("there is room in the queue");
    }
    let held = Arc::clone(&receiver);
    let job = move || drop(held);
    workers.execute(job).expect("there is room in the queue");
    drop(workers);
    assert_eq!(Arc::strong_count(&receiver), 1);
}

#[test]
fn jobs_may_start_jobs_and_the_last_one_may_drop_the_workers() {
    let mut config = config(4, 0, 4);
    config.name = "self-drop".to_owned();
    let workers = Arc::new(Workers::new(config));
    let (sender, receiver) = channel();
    let (inner, outer) = (Arc::clone(&workers), Arc::clone(&workers));
    let (begin, begun) = channel::<()>();
    let job = move || {
        let deepest = move || {
            let _ = begun.recv();
            drop(inner);
            sender.send(()).expect("the test receives");
        };
        outer.execute(deepest).expect("the limit is 4");
    };
    workers.execute(job).expect("there is room");
    drop(workers);
    drop(begin);
    receiver.recv().expect("the innermost job ends");
    #[cfg(target_os = "linux")]
    until("no thread is left", || threads_named("self-drop") == 0);
}

#[test]
fn under_contention_accepted_jobs_run_once_and_rejected_ones_come_back() {
    const SPAWNERS: usize = 8;
    const JOBS: usize = 2_000;
    let workers = Workers::new(config(6, 3, 1));
    let ran = Arc::new(AtomicUsize::new(0));
    let rejected = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..SPAWNERS {
            scope.spawn(|| {
                for number in 0..JOBS {
                    let ran = Arc::clone(&ran);
                    let job = move || {
                        ran.fetch_add(1, Ordering::SeqCst);
                        if number % 7 == 0 {
                            thread::yield_now();
                        }
                    };
                    if workers.execute(job).is_err() {
                        rejected.fetch_add(1, Ordering::SeqCst);
                        thread::yield_now();
                    }
                    let (size, _, running, queued) = counts(&workers);
                    assert!(size <= 6 && running <= 6 && queued <= 3);
                }
            });
        }
    });
    until("at rest", || counts(&workers) == (1, 1, 0, 0));
    let (ran, rejected) = (ran.load(Ordering::SeqCst), rejected.into_inner());
    assert_eq!(ran + rejected, SPAWNERS * JOBS);
}

/// Workers with a spinning thread, as far as the counters say: real spinning is too short to observe.
fn with_spinning_thread(limit: usize) -> Workers {
    let workers = Workers::new(config(limit, 0, 1));
    let mut state = workers.shared.lock();
    (state.active, state.spinning) = (1, 1);
    drop(state);
    assert_eq!(counts(&workers), (1, 1, 0, 0), "a spinning thread counts as idle");
    workers
}

#[test]
fn a_job_is_left_to_a_spinning_thread_and_the_next_gets_another_thread() {
    let workers = with_spinning_thread(2);
    let first = run(&workers);
    assert_eq!(counts(&workers), (1, 0, 1, 0), "no thread was started, and no job waits");
    assert!(first.try_recv().is_err());
    let second = run(&workers);
    assert!(second.recv_timeout(DEADLINE).is_ok());
    // The first free thread takes it: here the one that was started for the second job.
    assert!(first.recv_timeout(DEADLINE).is_ok());
    until("the spinning thread is idle again", || counts(&workers).1 == 2);
}

#[test]
fn at_the_limit_a_job_left_to_a_spinning_thread_is_not_counted_as_queued() {
    let workers = with_spinning_thread(1);
    let _first = run(&workers);
    let rejected = workers.execute(|| {}).expect_err("the one thread there may be has a job");
    assert!(rejected.to_string().ends_with("1 thread are busy; queued jobs: 0"), "{rejected}");
}

#[test]
fn on_drop_a_job_left_to_a_spinning_thread_stays_in_the_queue() {
    let workers = with_spinning_thread(1);
    let (sender, receiver) = channel();
    workers.execute(move || sender.send(()).expect("the test receives")).expect("a thread spins");
    let shared = Arc::clone(&workers.shared);
    drop(workers);
    let job = shared.lock().queue.pop_front().expect("it was not dropped");
    job.run();
    assert_eq!(receiver.recv(), Ok(()));
}

#[test]
fn after_a_drop_a_spinning_thread_still_runs_its_job() {
    let workers = with_spinning_thread(1);
    let (sender, receiver) = channel();
    workers.execute(move || sender.send(()).expect("the test receives")).expect("a thread spins");
    let shared = Arc::clone(&workers.shared);
    let thread = build(&workers.config).expect("a thread can be had");
    drop(workers);
    // The step of a thread that stops spinning.
    shared.lock().spinning = 0;
    let NextStep::Run(thread, job) = shared.next(thread) else {
        panic!("the job was left behind: {:?} waits", shared.lock().queue.len());
    };
    job.run();
    assert_eq!(receiver.recv(), Ok(()));
    assert!(matches!(shared.next(thread), NextStep::GoIdle(retired) if retired.len() == 1));
    assert_eq!(shared.lock().size(), 0);
}

#[test]
fn jobs_one_after_the_other_never_need_a_second_thread() {
    let workers = Workers::new(config(8, 0, 8));
    for _ in 0..2_000 {
        let receiver = run(&workers);
        receiver.recv_timeout(DEADLINE).expect("it ran");
        // If its thread had not finished it, another one would be started for the next job.
        until("the thread is free", || counts(&workers).1 == 1);
    }
    assert_eq!(counts(&workers), (1, 1, 0, 0));
}

#[test]
fn in_a_forked_child_the_parents_pool_rejects_jobs_and_a_new_one_works() {
    // Forks are detected once a registry exists.
    let _registry = Registry::new();
    let workers = Arc::new(Workers::new(config(1, 0, 1)));
    let (theirs, (begin, begun), (end, ended)) = (Arc::clone(&workers), channel(), channel::<()>());
    let holder = thread::spawn(move || {
        let _locks = (lock(&theirs.growth), theirs.shared.lock());
        begin.send(()).unwrap();
        assert!(ended.recv().is_err());
    });
    begun.recv().unwrap();
    let code = fork::tests::in_child(|| {
        let rejected = workers.execute(|| ()).unwrap_err();
        assert!(matches!(rejected.reason, NoThreadReason::Forked), "{rejected}");
        let (sender, receiver) = channel();
        Workers::new(config(1, 0, 1)).execute(move || sender.send(7).unwrap()).unwrap();
        assert_eq!(receiver.recv(), Ok(7));
    });
    drop(end);
    holder.join().unwrap();
    assert_eq!(code, Some(0), "it hangs (None) or fails");
}
