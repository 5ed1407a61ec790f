//! Messages from the child to its parent, and their encoding.
//!
//! A message is its length in eight bytes, followed by its fields: numbers in eight bytes, texts
//! and lists with their lengths before them. Both ends are the same binary, so there are no
//! versions. An incomplete message (the child exited) is ignored.

use echown_report::{Descriptor, Frame, Place};

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// The process is ready, and this is what there was before the body.
    Started(Started),
    /// The body begins, for the first or the second time.
    Began,
    /// It has come back. What takes time from here on is the harness's own.
    CameBack,
    /// The body has come back, and what it left has settled. Comes again when more is known.
    Ended(Ended),
    /// It has done so a second time in the same process: which of the things that were left the first
    /// time were left again. All of them, when the second time went otherwise than the first.
    Again { recurs: Vec<bool> },
}

/// What there was before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Started {
    /// Numbers.
    pub(super) before: Vec<i64>,
    /// Kernel ids of threads.
    pub(super) threads: Vec<i64>,
}

/// How a body came back and what it left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) outcome: Outcome,
    /// What is open that was not before.
    pub(super) left: Vec<Left>,
    /// What was open before and no longer is what it was, and where it was closed if that is known.
    pub(super) closed: Vec<Closed>,
    /// Closed twice: opened, closed, closed again.
    pub(super) doubles: Vec<Double>,
    /// What was open before, other than the standard three.
    pub(super) inherited: Vec<Descriptor>,
    /// What the test's own task left in the registry, a text each.
    pub(super) owned: Vec<Owned>,
    /// Children of the test's task that nobody joined.
    pub(super) forgotten: Vec<String>,
    /// Threads that the test started and that still run.
    pub(super) threads: Vec<String>,
    /// Whether openings were noted, and if they should have been, why not.
    pub(super) coverage: Coverage,
}

/// How a test's body ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// It returned, and not an error.
    #[default]
    Returned,
    /// By a `Result` that is an error; it has been printed.
    Erred,
    /// The panic's text, if it had one.
    Panicked(Option<String>),
}

/// A descriptor that was left open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) descriptor: Descriptor,
    pub(super) opened: Option<Place>,
    /// If the registry has it on record.
    pub(super) custody: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Closed {
    pub(super) number: i64,
    /// What it was.
    pub(super) was: String,
    /// What the number means now, if it is open.
    pub(super) now: Option<String>,
    pub(super) at: Option<Place>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Double {
    pub(super) number: i64,
    pub(super) places: Vec<Place>,
}

/// What the test's task still owned when it ended, which the registry has finalized.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Owned {
    /// The kind with the number.
    pub(super) what: String,
    pub(super) kind: String,
    /// Its path and addresses.
    pub(super) places: Vec<String>,
    pub(super) custody: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Coverage {
    /// Nobody asked for places.
    #[default]
    Unasked,
    /// Every opening was noted.
    Noted,
    /// They could not be, because of this.
    Missing(String),
}

impl Message {
    /// The message with its length in front.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut fields = Vec::new();
        self.put(&mut fields);
        let mut bytes = Vec::with_capacity(fields.len() + 8);
        (fields.len() as u64).put(&mut bytes);
        bytes.append(&mut fields);
        bytes
    }

    /// Takes the first whole message off what has arrived.
    pub(super) fn take_from(arrived: &mut Vec<u8>) -> Option<Message> {
        let mut rest = &arrived[..];
        let length = usize::try_from(u64::take(&mut rest)?).ok()?;
        let mut fields = rest.get(..length)?;
        let message = Message::take(&mut fields);
        arrived.drain(..8 + length);
        message
    }
}

/// A value that has a form in bytes.
trait Form: Sized {
    fn put(&self, bytes: &mut Vec<u8>);
    /// Takes one off the front; `None` when the bytes are no such thing.
    fn take(bytes: &mut &[u8]) -> Option<Self>;
}

impl Form for u64 {
    fn put(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.to_le_bytes());
    }

    fn take(bytes: &mut &[u8]) -> Option<u64> {
        let (number, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        Some(u64::from_le_bytes(*number))
    }
}

/// Whole numbers that fit, and the yes and no.
macro_rules! as_u64 {
    ($($type:ty: $put:expr, $take:expr;)+) => {$(
        impl Form for $type {
            fn put(&self, bytes: &mut Vec<u8>) {
                let put: fn(&$type) -> u64 = $put;
                put(self).put(bytes);
            }

            fn take(bytes: &mut &[u8]) -> Option<$type> {
                let take: fn(u64) -> Option<$type> = $take;
                take(u64::take(bytes)?)
            }
        }
    )+};
}

as_u64! {
    i64: |number| *number as u64, |number| Some(number as i64);
    i32: |number| i64::from(*number) as u64, |number| (number as i64).try_into().ok();
    u32: |number| u64::from(*number), |number| number.try_into().ok();
    bool: |yes| u64::from(*yes), |number| Some(number == 1);
}

impl Form for String {
    fn put(&self, bytes: &mut Vec<u8>) {
        (self.len() as u64).put(bytes);
        bytes.extend(self.as_bytes());
    }

    fn take(bytes: &mut &[u8]) -> Option<String> {
        let length = usize::try_from(u64::take(bytes)?).ok()?;
        let (text, rest) = bytes.split_at_checked(length)?;
        *bytes = rest;
        String::from_utf8(text.to_vec()).ok()
    }
}

impl<T: Form> Form for Vec<T> {
    fn put(&self, bytes: &mut Vec<u8>) {
        (self.len() as u64).put(bytes);
        self.iter().for_each(|item| item.put(bytes));
    }

    fn take(bytes: &mut &[u8]) -> Option<Vec<T>> {
        let length = u64::take(bytes)?;
        (0..length).map(|_| T::take(bytes)).collect()
    }
}

impl<T: Form> Form for Option<T> {
    fn put(&self, bytes: &mut Vec<u8>) {
        self.is_some().put(bytes);
        if let Some(value) = self {
            value.put(bytes);
        }
    }

    fn take(bytes: &mut &[u8]) -> Option<Option<T>> {
        if bool::take(bytes)? { T::take(bytes).map(Some) } else { Some(None) }
    }
}

/// Structures, field by field.
macro_rules! by_fields {
    ($($type:ident { $($field:ident),+ })+) => {$(
        impl Form for $type {
            fn put(&self, bytes: &mut Vec<u8>) {
                $(self.$field.put(bytes);)+
            }

            fn take(bytes: &mut &[u8]) -> Option<$type> {
                Some($type { $($field: Form::take(bytes)?),+ })
            }
        }
    )+};
}

by_fields! {
    Descriptor { number, kind, local, peer, path, facts }
    Place { what, thread, frames }
    Frame { function, file, line, column, is_own }
    Left { descriptor, opened, custody }
    Closed { number, was, now, at }
    Double { number, places }
    Started { before, threads }
    Owned { what, kind, places, custody }
    Ended { outcome, left, closed, doubles, inherited, owned, forgotten, threads, coverage }
}

/// Alternatives, each with at most one value.
macro_rules! by_alternatives {
    ($type:ident { $($mark:literal => $name:ident $(($value:ident))? $({$field:ident})?,)+ }) => {
        impl Form for $type {
            fn put(&self, bytes: &mut Vec<u8>) {
                match self {
                    $($type::$name $(($value))? $({ $field })? => {
                        let mark: u64 = $mark;
                        mark.put(bytes);
                        $($value.put(bytes);)?
                        $($field.put(bytes);)?
                    })+
                }
            }

            fn take(bytes: &mut &[u8]) -> Option<$type> {
                match u64::take(bytes)? {
                    $($mark => Some($type::$name
                        $(({ let $value = Form::take(bytes)?; $value }))?
                        $({ $field: Form::take(bytes)? })?
                    ),)+
                    _ => None,
                }
            }
        }
    };
}

by_alternatives!(Message {
    0 => Started(started),
    1 => Ended(ended),
    2 => Again { recurs },
    3 => Began,
    4 => CameBack,
});

by_alternatives!(Outcome {
    0 => Returned,
    1 => Erred,
    2 => Panicked(text),
});

by_alternatives!(Coverage {
    0 => Unasked,
    1 => Noted,
    2 => Missing(why),
});

#[cfg(test)]
mod tests {
    use super::*;

    fn messages() -> Vec<Message> {
        let frame = Frame {
            function: "crate::f".into(),
            file: Some("src/lib.rs".into()),
            line: 3,
            column: 0,
            is_own: true,
        };
        let place = Place { what: "opened".into(), thread: "`é`".into(), frames: vec![frame] };
        let descriptor = Descriptor {
            number: -7,
            kind: "pipe".into(),
            path: Some(String::new()),
            facts: vec!["reading end".into()],
            ..Descriptor::default()
        };
        let left =
            Left { descriptor, opened: Some(place.clone()), custody: vec!["acquired".into()] };
        vec![
            Message::Started(Started { before: vec![0, 1, -1, i64::MAX], threads: vec![] }),
            Message::Ended(Ended {
                outcome: Outcome::Panicked(Some("why".into())),
                left: vec![left],
                closed: vec![Closed { number: 3, at: Some(place.clone()), ..Closed::default() }],
                doubles: vec![Double { number: 4, places: vec![place] }],
                coverage: Coverage::Missing("why not".into()),
                ..Ended::default()
            }),
            Message::Again { recurs: vec![true, false] },
            Message::Began,
            Message::CameBack,
        ]
    }

    #[test]
    fn a_message_arrives_as_it_was_sent_however_it_is_cut() {
        let sent = messages();
        let bytes: Vec<u8> = sent.iter().flat_map(Message::to_bytes).collect();
        for size in [1, 2, 7, bytes.len()] {
            let (mut arrived, mut received) = (Vec::new(), Vec::new());
            for part in bytes.chunks(size) {
                arrived.extend(part);
                while let Some(message) = Message::take_from(&mut arrived) {
                    received.push(message);
                }
            }
            assert_eq!(received, sent);
            assert!(arrived.is_empty());
        }
    }

    #[test]
    fn a_message_that_ends_in_the_middle_is_none() {
        for message in messages() {
            let mut bytes = message.to_bytes();
            bytes.pop();
            assert_eq!(Message::take_from(&mut bytes), None);
        }
    }
}
