//! Events of a registry: what an observer gets, in which order, and what it costs the program.

use std::io::Read;
use std::sync::mpsc;

use echown::events::{Kind, Line};
use echown::net::{Listener, Stream};
use echown::ownership::{Level, Policy, Registry, Subscription};
use echown::thread;

/// A registry whose reports go nowhere.
fn silent() -> Registry {
    Registry::builder().sink(|_| {}).build()
}

fn take(subscription: &mut Subscription) -> Vec<Line> {
    subscription.next_lines(usize::MAX)
}

/// The kinds of lines about one resource.
fn of_resource(lines: &[Line], id: u64) -> Vec<Kind> {
    let about = lines.iter().filter(|line| line.resource == Some(id) && line.event.is_step());
    about.map(|line| line.event).collect()
}

fn kinds(lines: &[Line]) -> Vec<Kind> {
    lines.iter().map(|line| line.event).collect()
}

/// Runs a task in a registry that an observer follows from the beginning. The task has entered the
/// registry, and leaves nothing. Returns its value, and the events that it has not taken itself.
#[track_caller]
fn observed<T>(name: &str, task: impl FnOnce(&Registry, &mut Subscription) -> T) -> (T, Vec<Line>) {
    let registry = silent();
    let mut subscription = registry.subscribe(1000);
    let run = registry.run(name, || {
        let _entered = registry.enter();
        task(&registry, &mut subscription)
    });
    let value = run.expect("nothing is left");
    (value, take(&mut subscription))
}

/// A listener, and its address.
fn listener() -> (Listener, String) {
    let listener = Listener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    (listener, address)
}

fn pair() -> (Stream, Stream) {
    Stream::pair().expect("the system has sockets")
}

#[test]
fn every_hand_over_is_an_event_with_both_owners_and_the_line() {
    let ((ids, given_at, thread_name), lines) = observed("parent", |_, _| {
        let (ours, theirs) = pair();
        let ids = [ours.id().get(), theirs.id().get()];
        let (send, receive) = mpsc::channel();
        let (claimed, wait) = mpsc::channel();
        let offer_it = move |ours: Stream| {
            send.send(ours.offer().expect("it owns it")).expect("the parent waits");
            wait.recv().expect("the parent claims it");
            std::thread::current().name().map(str::to_owned)
        };
        let (child, given_at) = (thread::spawn_named_with("child", ours, offer_it), line!());
        let ours = receive.recv().expect("the child sends it").claim().expect("it is offered");
        claimed.send(()).expect("the child waits");
        ours.release().expect("it was claimed");
        let thread_name = child.expect("a thread can be started").join().expect("it returns");
        (ids, given_at, thread_name.expect("it has a name"))
    });
    use Kind::{Acquired, Claimed, Dropped, Given, Offered, Released};
    assert_eq!(of_resource(&lines, ids[0]), [Acquired, Given, Offered, Claimed, Released]);
    assert_eq!(of_resource(&lines, ids[1]), [Acquired, Dropped]);
    let given = lines.iter().find(|line| line.event == Given).expect("it was given");
    let name =
        |task: &Option<echown::events::TaskName>| task.as_ref().map(|it| it.name.to_string());
    assert_eq!((name(&given.from), name(&given.to)), (Some("parent".into()), Some("child".into())));
    let site = given.site.as_deref().expect("it has a site");
    assert!(site.starts_with(&format!("tests/events.rs:{given_at}:")), "{site}, not {given_at}");
    assert_eq!(given.kind.as_deref(), Some("unix stream"));
    assert_eq!((given.table, given.process), (Some(std::process::id()), given.table));
    let started = lines.iter().find(|line| {
        line.event == Kind::TaskStarted && name(&line.task).as_deref() == Some("child")
    });
    let started = started.expect("the child started");
    assert_eq!(name(&started.parent).as_deref(), Some("parent"));
    assert_eq!(started.thread_name.as_deref(), Some(&*thread_name));
    let times: Vec<u64> =
        lines.iter().filter(|it| it.resource == Some(ids[0])).map(|it| it.time_ns).collect();
    assert!(times.is_sorted(), "{times:?}");
}

#[test]
fn a_subscription_begins_with_the_custody_of_what_is_open() {
    let registry = silent();
    let run = registry.run("server", || {
        let _entered = registry.enter();
        registry.declare_external(2, "standard error", "opened by the parent process");
        let listener = Listener::bind("127.0.0.1:0").expect("loopback has a free port");
        let closed = registry.own(String::from("closed before")).expect("it is new");
        let closed_id = closed.id().get();
        closed.release().expect("it owns it");
        let mut subscription = registry.subscribe(1000);
        let id = listener.id().get();
        drop(listener);
        let lines = take(&mut subscription);
        let live = lines.iter().position(|line| line.event == Kind::Live).expect("it becomes live");
        let (past, now) = lines.split_at(live);
        assert_eq!(of_resource(past, id), [Kind::Acquired]);
        assert_eq!(of_resource(now, id), [Kind::Dropped]);
        assert!(past.iter().all(|line| line.replayed == Some(true)));
        assert!(now.iter().all(|line| line.replayed.is_none()));
        assert!(kinds(past).contains(&Kind::TaskStarted) && kinds(past).contains(&Kind::Declared));
        assert!(of_resource(&lines, closed_id).is_empty());
        assert!(take(&mut subscription).is_empty(), "what was taken is not delivered again");
    });
    run.expect("nothing is left");
}

#[test]
fn an_acquired_socket_has_its_addresses_if_it_is_still_open() {
    observed("server", |_, subscription| {
        let (_listener, local) = listener();
        let lines = take(subscription);
        let acquired = lines.iter().find(|line| line.event == Kind::Acquired);
        assert_eq!(acquired.and_then(|it| it.local.clone()), Some(local));
        drop(Listener::bind("127.0.0.1:0"));
        let lines = take(subscription);
        let gone = lines.iter().find(|line| line.event == Kind::Acquired).expect("it was acquired");
        assert_eq!(gone.local, None);
    });
}

#[test]
fn a_socket_that_was_split_meanwhile_has_its_addresses_on_the_whole_and_the_halves() {
    observed("server", |_, subscription| {
        let (_listener, local) = listener();
        let stream = Stream::connect(&local).expect("it listens");
        let (_reading, writing) = stream.split().expect("it owns it");
        drop(writing);
        let lines = take(subscription);
        let acquired = lines.iter().filter(|line| line.event == Kind::Acquired);
        let peers: Vec<_> = acquired.filter_map(|line| line.peer.clone()).collect();
        assert_eq!(peers, [&*local; 3], "the whole and two halves");
    });
}

#[test]
fn a_number_that_is_used_again_has_the_next_generation() {
    let ((), lines) = observed("opener", |_, _| {
        for _ in 0..3 {
            drop(pair());
        }
    });
    let acquired = lines.iter().filter(|line| line.event == Kind::Acquired);
    let mut seen = std::collections::HashMap::new();
    for line in acquired {
        let before = seen.insert(line.number.expect("it is a descriptor"), line.generation);
        let generation = line.generation.expect("descriptors have one");
        assert_eq!(before.flatten().unwrap_or(0) + 1, generation, "{line:?}");
    }
}

#[test]
fn halves_name_their_whole_and_share_its_generation() {
    let (whole, lines) = observed("owner", |_, _| {
        let (ours, _theirs) = pair();
        let (whole, (reading, writing)) = (ours.id().get(), ours.split().expect("it owns it"));
        drop(reading.rejoin(writing).expect("both are its own"));
        whole
    });
    use Kind::{Acquired, Dropped, Rejoined, Split};
    assert_eq!(of_resource(&lines, whole), [Acquired, Split, Rejoined, Dropped]);
    let halves: Vec<&Line> =
        lines.iter().filter(|it| it.half_of == Some(whole) && it.event == Acquired).collect();
    let names: Vec<_> = halves.iter().filter_map(|it| it.half.as_deref()).collect();
    assert_eq!(names, ["read", "write"]);
    assert!(halves.iter().all(|half| half.generation == Some(1)), "{halves:?}");
    for half in halves {
        assert_eq!(of_resource(&lines, half.resource.expect("it is one")), [Acquired, Rejoined]);
    }
}

#[test]
fn findings_are_events_with_their_text_and_resources() {
    let registry = silent();
    let mut subscription =
        registry.subscribe(1000).render_reports(|report| format!("rendered {}", report.code()));
    let leaked = registry.run("forgetful", || {
        let value = registry.own(String::from("forgotten")).expect("it is new");
        let id = value.id().get();
        std::mem::forget(value);
        id
    });
    let report = leaked.expect_err("it leaks");
    let id = report.leaks().expect("it leaked").resources[0].id.get();
    let lines = take(&mut subscription);
    use Kind::{Acquired, Finalized, Leaked, Live, TaskEnded, TaskStarted};
    assert_eq!(kinds(&lines), [Live, TaskStarted, Acquired, Finalized, Leaked, TaskEnded]);
    assert_eq!(lines[4].resources.as_deref(), Some(&[id][..]));
    assert_eq!(lines[4].text.as_deref(), Some("rendered leak"));
    let again = take(&mut registry.subscribe(8));
    let found = again.iter().filter(|line| line.event == Leaked).count();
    assert_eq!(found, 1, "a later observer gets earlier findings");
}

#[test]
fn an_ignored_finding_is_no_event() {
    let registry = Registry::builder().on_leak(Policy::Ignore).build();
    let mut subscription = registry.subscribe(1000);
    let run = registry.run("forgetful", || std::mem::forget(registry.own(1)));
    assert!(run.is_err());
    assert!(!kinds(&take(&mut subscription)).contains(&Kind::Leaked));
}

#[test]
fn a_cancelled_task_and_its_resources_are_events() {
    let (id, lines) = observed("parent", |_, _| {
        let (ours, theirs) = pair();
        let id = ours.id().get();
        let child = thread::spawn_named_with("reader", ours, |mut ours| {
            let mut byte = [0];
            let _ = ours.read(&mut byte);
        });
        let cancelled = child.expect("a thread can be started").cancel();
        assert!(cancelled.is_err(), "it was cancelled");
        drop(theirs);
        id
    });
    assert!(kinds(&lines).contains(&Kind::TaskCancelled));
    let ended = lines.iter().filter(|line| line.event == Kind::TaskEnded);
    let outcomes: Vec<_> = ended.filter_map(|line| line.outcome.as_deref()).collect();
    assert_eq!(outcomes, ["cancelled", "returned"]);
    let steps = of_resource(&lines, id);
    assert_eq!(steps[..3], [Kind::Acquired, Kind::Given, Kind::Cancelled], "{steps:?}");
    assert!(steps[3].is_final(), "{steps:?}");
}

#[test]
fn a_panic_is_the_outcome_of_its_task() {
    let registry = silent();
    let mut subscription = registry.subscribe(1000);
    let run = registry.run("clumsy", || std::panic::resume_unwind(Box::new("on purpose")));
    assert!(run.is_err());
    let lines = take(&mut subscription);
    let ended = lines.last().expect("it ended");
    assert_eq!((ended.event, ended.outcome.as_deref()), (Kind::TaskEnded, Some("panicked")));
}

#[test]
fn an_observer_that_does_not_read_loses_events_and_gets_their_number() {
    let registry = silent();
    let mut subscription = registry.subscribe(64);
    let run = registry.run("busy", || {
        for _ in 0..100 {
            drop(registry.own(0));
        }
    });
    run.expect("nothing is left");
    let lines = take(&mut subscription);
    let lost = lines.iter().find(|line| line.event == Kind::Lost).and_then(|line| line.count);
    let received = lines.len() as u64 - 2;
    assert_eq!(received + lost.expect("events were lost"), 202, "start, 200 steps, end");
    drop(registry.own(0));
    let lines = take(&mut subscription);
    assert!(kinds(&lines).ends_with(&[Kind::Acquired, Kind::Dropped]), "{lines:?}");
}

#[test]
fn observers_are_independent_and_leave() {
    let registry = silent();
    let mut first = registry.subscribe(1000);
    let second = registry.subscribe(1000);
    take(&mut first);
    drop(second);
    drop(registry.own(0));
    assert!(kinds(&take(&mut first)).ends_with(&[Kind::Acquired, Kind::Dropped]));
}

#[test]
fn level_off_has_events_too() {
    let registry = Registry::builder().level(Level::Off).build();
    let run = registry.run("owner", || {
        let before = registry.own(String::from("before")).expect("it is new");
        let mut subscription = registry.subscribe(1000);
        drop(registry.own(1));
        let lines = take(&mut subscription);
        assert_eq!(of_resource(&lines, before.id().get()), [Kind::Acquired]);
        assert!(kinds(&lines).ends_with(&[Kind::Live, Kind::Acquired, Kind::Dropped]));
    });
    run.expect("nothing is left");
}

#[test]
fn a_subscription_that_begins_between_two_steps_misses_neither() {
    let registry = silent();
    let (stop, stopped) = mpsc::channel::<()>();
    let (send_id, id) = mpsc::channel();
    let mover = {
        let registry = registry.clone();
        std::thread::spawn(move || {
            let run = registry.run("mover", || {
                let mut value = registry.own(0).expect("it is new");
                send_id.send(value.id().get()).expect("the test waits");
                while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
                    value = value.offer().expect("it owns it").claim().expect("it is offered");
                }
            });
            run.expect("nothing is left");
        })
    };
    let id = id.recv().expect("the mover sends it");
    for _ in 0..300 {
        let mut subscription = registry.subscribe(1 << 16);
        // Until there are steps that happened after the beginning.
        let mut lines = Vec::new();
        while lines.iter().filter(|line: &&Line| line.replayed.is_none()).count() < 10 {
            lines.extend(subscription.next_lines(1000));
        }
        let past = lines.iter().rposition(|it| it.replayed.is_some() && it.resource == Some(id));
        // The middle of a long custody is not kept, so the last step of the past is the first one here.
        let steps = of_resource(&lines[past.expect("it was open")..], id);
        let alternate = steps.windows(2).all(|pair| pair[0] != pair[1]);
        assert!(alternate, "a step is missing or there twice: {steps:?}");
    }
    drop(stop);
    mover.join().expect("it ends");
}
