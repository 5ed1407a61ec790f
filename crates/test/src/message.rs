//! Messages from the child to its parent, and their encoding.
//!
//! A message is its length in eight bytes, followed by its fields: numbers in eight bytes, texts
//! and lists with their lengths before them. Both ends are the same binary, so there are no
//! versions.

use echown_fd::trap::Misuse;
use echown_report::{Descriptor, Place, StackFrame};

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ChildMessage {
    /// The process is ready; contains the state before the body.
    Started(Started),
    /// The body begins, for the first or second time, at this moment (see [`now`]).
    Began { at: u64 },
    /// The body has returned. The time from here on is the harness's own.
    Returned { at: u64 },
    /// The body has returned, and the process has settled. Sent again with what a second execution
    /// adds.
    Ended(Ended),
}

/// The time in nanoseconds of a clock that parent and child share.
pub(super) fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

/// The state before the body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Started {
    /// Numbers of open descriptors.
    pub(super) before: Vec<i64>,
    /// Kernel ids of threads.
    pub(super) threads: Vec<i64>,
}

/// The outcome of a body, and the descriptors, tasks and threads that it left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) outcome: Outcome,
    /// Descriptors that were opened and are still open.
    pub(super) left: Vec<Left>,
    /// Descriptors that were open before and are now closed or replaced, with the place of the
    /// close, if known.
    pub(super) closed: Vec<Closed>,
    /// Misused numbers.
    pub(super) misused: Vec<MisusedFd>,
    /// Descriptors that programs inherited by accident.
    pub(super) exec_leaks: Vec<ExecLeaked>,
    /// Descriptors that were open before, except for the standard streams.
    pub(super) inherited: Vec<Descriptor>,
    /// Resources that the test's own task still owned.
    pub(super) owned: Vec<OwnedAtExit>,
    /// Unjoined children of the test's task.
    pub(super) unjoined: Vec<String>,
    /// Threads that the test started and that still run.
    pub(super) threads: Vec<String>,
    /// Whether openings were recorded and, if that failed, why.
    pub(super) coverage: Coverage,
}

/// The outcome of a test's body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// It returned, and the value is not an `Err`.
    #[default]
    Returned,
    /// It returned `Err`, which has been printed.
    ReturnedErr,
    /// It panicked, with the message if there is one.
    Panicked(Option<String>),
}

/// A descriptor that was still open when the body returned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) descriptor: Descriptor,
    pub(super) opened: Option<Place>,
    /// The custody, if the registry contains the resource.
    pub(super) custody: Vec<String>,
    pub(super) fate: Fate,
    /// Whether a second execution of the body left it again. `None` if there was none that could be
    /// compared.
    pub(super) recurs: Option<bool>,
}

/// What became of a descriptor that was open when the body returned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Fate {
    /// It stayed open: a leak, unless the test ignores it.
    #[default]
    StayedOpen,
    /// It belongs to the process and not to the test, for this reason.
    ProcessWide(String),
    /// A thread closed it after the settle time.
    ClosedLate(ClosedLate),
}

/// A close after the settle time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ClosedLate {
    /// The time since the end of the settle time.
    pub(super) after_ms: u64,
    /// The thread that closed it, if known.
    pub(super) thread: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Closed {
    pub(super) number: i64,
    /// The description before the body.
    pub(super) was: String,
    /// The description of the number now, if it is open.
    pub(super) now: Option<String>,
    pub(super) at: Option<Place>,
}

/// A misused number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct MisusedFd {
    pub(super) misuse: Misuse,
    pub(super) number: i64,
    /// The kind of what was opened under the number last.
    pub(super) kind: Option<String>,
    /// Whether the standard library would have aborted.
    pub(super) is_abort_due: bool,
    /// The number of openings in `places`.
    pub(super) openings: u64,
    /// The number of closes in `places` that failed.
    pub(super) misuses: u64,
    /// The last events of the number.
    pub(super) places: Vec<Place>,
}

/// A descriptor that a program inherited by accident.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ExecLeaked {
    pub(super) descriptor: Descriptor,
    pub(super) opened: Place,
    pub(super) program: String,
    /// The program's first argument.
    pub(super) argument: String,
    /// How often the program was started so.
    pub(super) times: u32,
}

/// A resource that the test's task still owned at its end and that the registry has finalized.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct OwnedAtExit {
    /// The kind and the number.
    pub(super) what: String,
    pub(super) kind: String,
    /// Its path and addresses.
    pub(super) places: Vec<String>,
    pub(super) custody: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Coverage {
    /// Recording was not enabled.
    #[default]
    NotRecorded,
    /// All opening calls were recorded.
    Noted,
    /// Recording failed, for this reason.
    Missing(String),
}

impl ChildMessage {
    /// The encoded message, with its length in front.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut fields = Vec::new();
        self.encode(&mut fields);
        let mut bytes = Vec::with_capacity(fields.len() + 8);
        (fields.len() as u64).encode(&mut bytes);
        bytes.append(&mut fields);
        bytes
    }

    /// Decodes the message at the front of `bytes`, and removes it from them.
    pub(super) fn take_from(bytes: &mut &[u8]) -> Option<ChildMessage> {
        let mut rest = *bytes;
        let length = usize::try_from(u64::decode(&mut rest)?).ok()?;
        let (mut fields, rest) = rest.split_at_checked(length)?;
        *bytes = rest;
        ChildMessage::decode(&mut fields)
    }
}

/// A value with a wire encoding.
trait Encode: Sized {
    fn encode(&self, bytes: &mut Vec<u8>);
    /// Decodes a value from the front of `bytes`; `None` if they are invalid.
    fn decode(bytes: &mut &[u8]) -> Option<Self>;
}

impl Encode for u64 {
    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.to_le_bytes());
    }

    fn decode(bytes: &mut &[u8]) -> Option<u64> {
        let (number, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        Some(u64::from_le_bytes(*number))
    }
}

/// Implements [`Encode`] for integers and `bool`.
macro_rules! as_u64 {
    ($($type:ty: $encode:expr, $decode:expr;)+) => {$(
        impl Encode for $type {
            fn encode(&self, bytes: &mut Vec<u8>) {
                let encode: fn(&$type) -> u64 = $encode;
                encode(self).encode(bytes);
            }

            fn decode(bytes: &mut &[u8]) -> Option<$type> {
                let decode: fn(u64) -> Option<$type> = $decode;
                decode(u64::decode(bytes)?)
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

impl Encode for String {
    fn encode(&self, bytes: &mut Vec<u8>) {
        (self.len() as u64).encode(bytes);
        bytes.extend(self.as_bytes());
    }

    fn decode(bytes: &mut &[u8]) -> Option<String> {
        let length = usize::try_from(u64::decode(bytes)?).ok()?;
        let (text, rest) = bytes.split_at_checked(length)?;
        *bytes = rest;
        String::from_utf8(text.to_vec()).ok()
    }
}

impl<T: Encode> Encode for Vec<T> {
    fn encode(&self, bytes: &mut Vec<u8>) {
        (self.len() as u64).encode(bytes);
        self.iter().for_each(|item| item.encode(bytes));
    }

    fn decode(bytes: &mut &[u8]) -> Option<Vec<T>> {
        let length = u64::decode(bytes)?;
        (0..length).map(|_| T::decode(bytes)).collect()
    }
}

impl<T: Encode> Encode for Option<T> {
    fn encode(&self, bytes: &mut Vec<u8>) {
        self.is_some().encode(bytes);
        if let Some(value) = self {
            value.encode(bytes);
        }
    }

    fn decode(bytes: &mut &[u8]) -> Option<Option<T>> {
        if bool::decode(bytes)? { T::decode(bytes).map(Some) } else { Some(None) }
    }
}

/// Implements [`Encode`] for structs, field by field.
macro_rules! encode_fields {
    ($($type:ident { $($field:ident),+ })+) => {$(
        impl Encode for $type {
            fn encode(&self, bytes: &mut Vec<u8>) {
                $(self.$field.encode(bytes);)+
            }

            fn decode(bytes: &mut &[u8]) -> Option<$type> {
                Some($type { $($field: Encode::decode(bytes)?),+ })
            }
        }
    )+};
}

encode_fields! {
    Descriptor { number, kind, local, peer, path, facts }
    Place { what, thread, frames }
    StackFrame { function, file, line, column, is_own, package, is_guessed }
    Left { descriptor, opened, custody, fate, recurs }
    ClosedLate { after_ms, thread }
    Closed { number, was, now, at }
    MisusedFd { misuse, number, kind, is_abort_due, openings, misuses, places }
    ExecLeaked { descriptor, opened, program, argument, times }
    Started { before, threads }
    OwnedAtExit { what, kind, places, custody }
    Ended { outcome, left, closed, misused, exec_leaks, inherited, owned, unjoined, threads, coverage }
}

/// Implements [`Encode`] for enums, whose variants have at most one value each.
macro_rules! encode_variants {
    ($type:ident { $($tag:literal => $name:ident $(($value:ident))? $({$field:ident})?,)+ }) => {
        impl Encode for $type {
            fn encode(&self, bytes: &mut Vec<u8>) {
                match self {
                    $($type::$name $(($value))? $({ $field })? => {
                        let tag: u64 = $tag;
                        tag.encode(bytes);
                        $($value.encode(bytes);)?
                        $($field.encode(bytes);)?
                    })+
                }
            }

            fn decode(bytes: &mut &[u8]) -> Option<$type> {
                match u64::decode(bytes)? {
                    $($tag => Some($type::$name
                        $(({ let $value = Encode::decode(bytes)?; $value }))?
                        $({ $field: Encode::decode(bytes)? })?
                    ),)+
                    _ => None,
                }
            }
        }
    };
}

encode_variants!(ChildMessage {
    0 => Started(started),
    1 => Ended(ended),
    2 => Began { at },
    3 => Returned { at },
});

encode_variants!(Fate {
    0 => StayedOpen,
    1 => ProcessWide(why),
    2 => ClosedLate(late),
});

encode_variants!(Misuse {
    0 => DoubleClose,
    1 => UseAfterClose,
    2 => ClosedInUse,
    3 => Overwritten,
});

encode_variants!(Outcome {
    0 => Returned,
    1 => ReturnedErr,
    2 => Panicked(text),
});

encode_variants!(Coverage {
    0 => NotRecorded,
    1 => Noted,
    2 => Missing(why),
});

#[cfg(test)]
mod tests {
    use super::*;

    fn messages() -> Vec<ChildMessage> {
        let frame = StackFrame {
            function: "crate::f".into(),
            file: Some("src/lib.rs".into()),
            line: 3,
            column: 0,
            is_own: true,
            package: None,
            is_guessed: false,
        };
        let place = Place { what: "opened".into(), thread: "`é`".into(), frames: vec![frame] };
        let descriptor = Descriptor {
            number: -7,
            kind: "pipe".into(),
            path: Some(String::new()),
            facts: vec!["reading end".into()],
            ..Descriptor::default()
        };
        let late = ClosedLate { after_ms: 7, thread: None };
        let left = Left {
            descriptor,
            opened: Some(place.clone()),
            custody: vec!["acquired".into()],
            fate: Fate::ClosedLate(late),
            recurs: Some(false),
        };
        vec![
            ChildMessage::Started(Started { before: vec![0, 1, -1, i64::MAX], threads: vec![] }),
            ChildMessage::Ended(Ended {
                outcome: Outcome::Panicked(Some("why".into())),
                left: vec![left],
                closed: vec![Closed { number: 3, at: Some(place.clone()), ..Closed::default() }],
                misused: vec![MisusedFd {
                    misuse: Misuse::UseAfterClose,
                    number: 4,
                    kind: None,
                    is_abort_due: true,
                    openings: 1,
                    misuses: 2,
                    places: vec![place],
                }],
                coverage: Coverage::Missing("why not".into()),
                ..Ended::default()
            }),
            ChildMessage::Began { at: now() },
            ChildMessage::Returned { at: u64::MAX },
        ]
    }

    #[test]
    fn messages_arrive_as_they_were_sent() {
        let sent = messages();
        let bytes: Vec<u8> = sent.iter().flat_map(ChildMessage::to_bytes).collect();
        let mut arrived = &bytes[..];
        let received: Vec<_> =
            std::iter::from_fn(|| ChildMessage::take_from(&mut arrived)).collect();
        assert_eq!(received, sent);
        assert!(arrived.is_empty());
    }

    #[test]
    fn a_message_that_ends_in_the_middle_is_none() {
        for message in messages() {
            let mut bytes = message.to_bytes();
            bytes.pop();
            assert_eq!(ChildMessage::take_from(&mut &bytes[..]), None);
        }
    }
}
