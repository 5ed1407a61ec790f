//! The script: a tree of moves, and how it is generated.

use proptest::prelude::*;

/// A script has few resources and moves, so that they often interact.
const MOVES_MAX: u32 = 64;
const DEPTH_MAX: u32 = 4;
const MOVES_PER_BODY_MAX: u32 = 10;

/// What a finalizer does after it was recorded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Finalizer {
    Succeeds,
    Fails,
    Panics,
}

/// How a body ends.
#[derive(Clone, Debug)]
pub enum End {
    Normally,
    InPanic,
    /// The panic unwinds through `with` on this resource.
    InPanicInside(usize),
}

/// The index of a resource, modulo their number.
pub type Pick = usize;

#[derive(Clone, Debug)]
pub enum Move {
    Own(Finalizer),
    Check(Pick),
    Release(Pick),
    Disown(Pick),
    Transfer(Pick),
    Offer(Pick),
    Claim(Pick),
    /// The second one picks the lot, among those of all tasks so far.
    Park(Pick, Pick),
    Unpark(Pick, Pick),
    Drop(Pick),
    Forget(Pick),
    With(Pick, Vec<Move>),
    /// A child that runs inline; `take` are the handles that its closure captures.
    Child {
        give: Vec<Pick>,
        take: Vec<Pick>,
        body: Vec<Move>,
        end: End,
    },
    /// A separate root, inline.
    Root {
        body: Vec<Move>,
        end: End,
    },
}

pub fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        5 => Just(End::Normally),
        2 => Just(End::InPanic),
        1 => any::<u8>().prop_map(|pick| End::InPanicInside(pick.into())),
    ]
}

pub fn moves() -> impl Strategy<Value = Vec<Move>> {
    let finalizer = prop_oneof![
        6 => Just(Finalizer::Succeeds),
        1 => Just(Finalizer::Fails),
        1 => Just(Finalizer::Panics),
    ];
    let pick = || any::<u8>().prop_map(Pick::from);
    let leaf = prop_oneof![
        6 => finalizer.prop_map(Move::Own),
        2 => pick().prop_map(Move::Check),
        2 => pick().prop_map(Move::Release),
        1 => pick().prop_map(Move::Disown),
        3 => pick().prop_map(Move::Transfer),
        3 => pick().prop_map(Move::Offer),
        3 => pick().prop_map(Move::Claim),
        3 => (pick(), pick()).prop_map(|(thing, lot)| Move::Park(thing, lot)),
        3 => (pick(), pick()).prop_map(|(thing, lot)| Move::Unpark(thing, lot)),
        2 => pick().prop_map(Move::Drop),
        1 => pick().prop_map(Move::Forget),
    ];
    let some = || proptest::collection::vec(any::<u8>().prop_map(Pick::from), 0..4);
    let one = leaf.prop_recursive(DEPTH_MAX, MOVES_MAX, MOVES_PER_BODY_MAX, move |inner| {
        let body = || proptest::collection::vec(inner.clone(), 0..MOVES_PER_BODY_MAX as usize);
        prop_oneof![
            1 => (any::<u8>(), body()).prop_map(|(pick, body)| Move::With(pick.into(), body)),
            4 => (some(), some(), body(), end())
                .prop_map(|(give, take, body, end)| Move::Child { give, take, body, end }),
            1 => (body(), end()).prop_map(|(body, end)| Move::Root { body, end }),
        ]
    });
    proptest::collection::vec(one, 0..MOVES_PER_BODY_MAX as usize)
}
