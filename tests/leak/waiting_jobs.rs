//! Cancellation of jobs in the queue of a pool.

use std::sync::mpsc::channel;

use echown::pool::Pool;
use echown::test;

use crate::common::{Fixture, assert_cancelled};

#[test]
fn a_cancelled_job_frees_its_place_in_the_queue() {
    const QUEUE: usize = 3;
    let fixture = Fixture::new();
    fixture.root(|| {
        let pool = Pool::builder().registry(&fixture.registry).limit(1).queue(QUEUE).build();
        let (end, ended) = channel::<()>();
        let busy = pool.spawn([], move || assert!(ended.recv().is_err())).expect("there is space");
        let spawn = |name: &'static str| {
            let given = fixture.own(name);
            let spawned = pool.spawn_named(name, [given.resource()], move || {
                given.release().expect("it was given");
                name
            });
            spawned.expect("there is space in the queue")
        };
        for _ in 0..5 {
            let cancelled = [spawn("cancelled"), spawn("cancelled"), spawn("cancelled")];
            assert_eq!(pool.queued(), QUEUE);
            let rejected = pool.spawn([], || ()).expect_err("the queue is full").to_string();
            assert!(rejected.ends_with("queued jobs: 3"), "{rejected}");
            cancelled.into_iter().for_each(|promise| assert_cancelled(promise.cancel()));
            assert_eq!(pool.queued(), 0);
        }
        let one = spawn("one");
        assert_cancelled(spawn("between").cancel());
        let others = [spawn("two"), spawn("three")];
        assert_eq!(pool.queued(), QUEUE);
        drop(end);
        busy.join().expect("it leaves no resource");
        one.join().expect("it leaves no resource");
        for other in others {
            other.join().expect("it leaves no resource");
        }
        assert_eq!((pool.queued(), pool.size()), (0, 1));
    });
    assert!(fixture.finalized().ends_with(&["between", "one", "two", "three"]), "in their order");
    fixture.assert_clean();
}
