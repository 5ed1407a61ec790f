//! `TraceEvent`: one line of the trace.

use std::fmt;

use super::Event;

/// The destination of a trace. Called with one event at a time, in order, while no machine runs.
pub(crate) type Sink = Box<dyn Fn(&TraceEvent<'_>) + Send + Sync>;

/// The most bytes of a request that one line shows.
const BYTES_SHOWN: usize = 64;

/// One line of a trace. Its text has the grammar of EDSM's trace.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TraceEvent<'a> {
    /// A machine gets an event. Its reaction comes after this line.
    Got {
        machine: &'a str,
        state: &'a str,
        event: Event,
        /// `SELF`, `OS`, or the name of a machine.
        from: &'a str,
    },
    /// Bytes of a request were received. The text shows the first 64.
    Received { bytes: &'a [u8] },
    /// A machine listens on a place: `port 3333`, or a path.
    Hello { machine: &'a str, place: &'a str },
    /// A signal was received, from this sender if the kernel reports it.
    Signal { number: i32, pid: Option<i32> },
    /// A machine has ended.
    Bye { machine: &'a str },
    /// A client's worker has connected.
    Connected { worker: &'a str, to: &'a str },
    /// A client's worker failed to connect.
    CannotConnect { worker: &'a str, to: &'a str },
    /// A client's worker received the correct reply; the text is without the newline.
    Reply { text: &'a str },
}

impl fmt::Display for TraceEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TraceEvent::Got { machine, state, event, from } => {
                write!(f, "{machine} @ {state} got '{event}' from {from}")
            }
            TraceEvent::Received { bytes } => {
                write!(f, "<<< {} bytes: {{ ", bytes.len())?;
                for (index, byte) in bytes.iter().take(BYTES_SHOWN).enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}{byte}")?;
                }
                f.write_str(if bytes.len() > BYTES_SHOWN { ", ... }" } else { " }" })
            }
            TraceEvent::Hello { machine, place } => {
                write!(f, "Hello! I am '{machine}' on {place}.")
            }
            TraceEvent::Signal { number, pid: Some(pid) } => {
                write!(f, "got signal #{number} from PID {pid}")
            }
            TraceEvent::Signal { number, pid: None } => write!(f, "got signal #{number}"),
            TraceEvent::Bye { machine } => write!(f, "Bye! It was '{machine}'."),
            TraceEvent::Connected { worker, to } => write!(f, "{worker} : connected to '{to}'"),
            TraceEvent::CannotConnect { worker, to } => {
                write!(f, "{worker} : can not connect to '{to}'")
            }
            TraceEvent::Reply { text } => write!(f, "reply: {text}"),
        }
    }
}
