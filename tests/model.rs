//! The registry compared with a model of it: a few vectors that hold the owner of each resource.
//!
//! A script is a tree of moves. An interpreter runs it on one thread, with children and roots run
//! inline, on the real registry and on the model at once, and compares after every move: the
//! error's kind, every resource's owner, state and custody, the finalizers that ran, in their
//! order, the snapshot, and the verdict's counts. Public names only.

use proptest::prelude::*;
use script::{End, Finalizer, Move, end, moves};
use world::World;

#[path = "model/script.rs"]
mod script;

#[path = "model/expected.rs"]
mod expected;

#[path = "model/world.rs"]
mod world;

fn registry_and_model_agree(body: Vec<Move>, end: End) {
    let world = World::new();
    world.run_all(&[Move::Root { body, end }]);
    {
        let model = world.model.borrow();
        let mut finalized = model.finalized.clone();
        finalized.sort_unstable();
        let expected: Vec<_> =
            (0..model.things.len()).filter(|thing| !model.things[*thing].disowned).collect();
        assert_eq!(finalized, expected, "resources that were not disowned are finalized once");
    }
    // The handles that are left are of no consequence any more.
    let violations = world.registry.summary().violations;
    world.seats.take().clear();
    assert_eq!(world.registry.summary().violations, violations);
    assert_eq!(world.finalized.lock().unwrap().len(), world.model.borrow().finalized.len());
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1024,
        // A failure prints its script; it becomes a test of its own, with a name.
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_script_gives_registry_and_model_the_same_state(body in moves(), end in end()) {
        registry_and_model_agree(body, end);
    }
}

#[test]
fn a_failed_give_keeps_the_order_of_acquisition() {
    let owned = || Move::Own(Finalizer::Succeeds);
    let give = Move::Child { give: vec![0, 0], take: vec![], body: vec![], end: End::Normally };
    registry_and_model_agree(vec![owned(), owned(), give], End::Normally);
}

#[test]
fn offers_that_pass_to_the_parent_keep_their_order() {
    let owned = || Move::Own(Finalizer::Succeeds);
    let body = vec![owned(), owned(), Move::Offer(0), Move::Offer(1)];
    let child = Move::Child { give: vec![], take: vec![], body, end: End::Normally };
    registry_and_model_agree(vec![child], End::Normally);
}

#[test]
fn parking_in_turn_is_folded_and_other_steps_end_it() {
    let pair = |lot| [Move::Unpark(0, lot), Move::Park(0, lot)];
    let in_turn = |lot| (0..5).flat_map(|_| pair(lot)).collect::<Vec<_>>();
    let mut body = vec![Move::Own(Finalizer::Succeeds), Move::Park(0, 0)];
    body.extend(in_turn(0));
    body.push(Move::Unpark(0, 0));
    let own = [vec![Move::Park(0, 1)], in_turn(1), vec![Move::Unpark(0, 1)]].concat();
    let rest = [own, vec![Move::Park(0, 0)], in_turn(0)].concat();
    body.push(Move::Child { give: vec![0], take: vec![], body: rest, end: End::Normally });
    registry_and_model_agree(body, End::Normally);
}
