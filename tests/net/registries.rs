//! Which registry a function without a registry argument uses.

use echown::net::Stream;
use echown::ownership::{Registry, own};
use echown::pool::Pool;
use echown::thread::spawn_named;

use super::{clean, quiet, run};
use echown::test;

/// How many resources each of the registries has.
fn counts<const N: usize>(registries: [&Registry; N]) -> [usize; N] {
    registries.map(|registry| registry.snapshot().resources.len())
}

#[test]
fn a_thread_without_a_task_uses_the_process_wide_registry() {
    std::thread::spawn(|| {
        assert_eq!(Registry::current(), *Registry::global());
        let stream = Stream::pair().unwrap().0;
        assert_eq!(Registry::current(), *Registry::global(), "it is adopted");
        let all = Registry::global().snapshot().resources;
        assert!(all.iter().any(|data| data.id == stream.id()));
    })
    .join()
    .unwrap();
}

#[test]
fn a_task_and_its_children_use_the_registry_they_were_started_in() {
    clean(|| {
        let registry = Registry::current();
        let is_here = {
            let registry = registry.clone();
            move || Registry::current() == registry
        };
        let inline = registry.run_inline("inline", [], &is_here).unwrap();
        let thread = spawn_named("thread", [], is_here.clone()).unwrap().join().unwrap();
        assert!(inline && thread);
        let other = quiet();
        let pool = Pool::builder().registry(&other).build();
        assert!(!pool.spawn([], is_here).unwrap().join().unwrap());
        run(&other, || assert_eq!(Registry::current(), other));
        assert_eq!(Registry::current(), registry);
    });
}

#[test]
fn an_entered_registry_is_current_until_the_guard_is_dropped() {
    clean(|| {
        let (home, other, third) = (Registry::current(), quiet(), quiet());
        let outer = other.enter();
        let _pair = Stream::pair().unwrap();
        let inner = third.enter();
        let _owned = own(()).unwrap();
        assert_eq!(counts([&home, &other, &third]), [0, 2, 1]);
        drop(inner);
        let _owned = own(()).unwrap();
        assert_eq!(counts([&home, &other, &third]), [0, 3, 1]);
        // A task in place of this one has its own.
        run(&third, || assert_eq!(Registry::current(), third));
        drop(outer);
        assert_eq!(Registry::current(), home);
    });
}

#[test]
fn a_panic_leaves_an_entered_registry() {
    let other = quiet();
    let entered = std::panic::catch_unwind(|| {
        let _entered = other.enter();
        std::panic::resume_unwind(Box::new(()));
    });
    entered.unwrap_err();
    assert_ne!(Registry::current(), other);
}
