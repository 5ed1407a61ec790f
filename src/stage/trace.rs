//! `TraceEvent`: one line of the trace, as text and as JSON.

use std::fmt;

use super::Event;

/// The destination of a trace. Called with one event at a time, in order, while no machine runs.
pub(crate) type Sink = Box<dyn Fn(&TraceEvent<'_>) + Send + Sync>;

/// The most bytes of a request that one line shows.
const BYTES_SHOWN: usize = 64;

/// One line of a trace. Its text has the grammar of EDSM's trace.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[cfg_attr(feature = "json", serde(tag = "event", rename_all = "snake_case"))]
#[non_exhaustive]
pub(crate) enum TraceEvent<'a> {
    /// A machine gets an event. Its reaction comes after this line.
    Got {
        /// `RX-4`.
        machine: &'a str,
        /// `WORK`.
        state: &'a str,
        /// `D0`.
        #[cfg_attr(feature = "json", serde(rename = "got", serialize_with = "as_text"))]
        event: Event,
        /// `SELF`, `OS`, or the name of a machine.
        from: &'a str,
    },
    /// Bytes of a request were received.
    Received {
        /// All of them; the text shows the first 64.
        bytes: &'a [u8],
    },
    /// A machine listens.
    Hello {
        /// `LISTENER-1`.
        machine: &'a str,
        /// `port 3333`, or a path.
        place: &'a str,
    },
    /// A signal was received.
    Signal {
        /// Its number.
        number: i32,
        /// The sender, where the kernel reports it.
        pid: Option<i32>,
    },
    /// A machine has ended.
    Bye {
        /// `LISTENER-1`.
        machine: &'a str,
    },
    /// A client's worker has connected.
    Connected {
        /// `WORKER-1`.
        worker: &'a str,
        /// `127.0.0.1:3333`.
        to: &'a str,
    },
    /// A client's worker failed to connect.
    CannotConnect {
        /// `WORKER-1`.
        worker: &'a str,
        /// `127.0.0.1:3333`.
        to: &'a str,
    },
    /// A client's worker received the correct reply.
    Reply {
        /// Without the newline.
        text: &'a str,
    },
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

#[cfg(feature = "json")]
impl TraceEvent<'_> {
    /// The event as one JSON object.
    #[must_use]
    pub(crate) fn to_json(self) -> String {
        match serde_json::to_string(&self) {
            Ok(json) => json,
            Err(error) => unreachable!("plain data always serializes: {error}"),
        }
    }
}

#[cfg(feature = "json")]
fn as_text<S: serde::Serializer>(event: &Event, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_the_grammar_of_edsm() {
        let got =
            TraceEvent::Got { machine: "RX-4", state: "WORK", event: Event::D(0), from: "OS" };
        let lines = [
            (got, "RX-4 @ WORK got 'D0' from OS"),
            (TraceEvent::Received { bytes: b"123\n" }, "<<< 4 bytes: { 49, 50, 51, 10 }"),
            (
                TraceEvent::Hello { machine: "LISTENER-1", place: "port 3333" },
                "Hello! I am 'LISTENER-1' on port 3333.",
            ),
            (TraceEvent::Signal { number: 2, pid: Some(7) }, "got signal #2 from PID 7"),
            (TraceEvent::Bye { machine: "LISTENER-1" }, "Bye! It was 'LISTENER-1'."),
            (
                TraceEvent::Connected { worker: "WORKER-1", to: "127.0.0.1:3333" },
                "WORKER-1 : connected to '127.0.0.1:3333'",
            ),
            (
                TraceEvent::CannotConnect { worker: "WORKER-1", to: "127.0.0.1:3333" },
                "WORKER-1 : can not connect to '127.0.0.1:3333'",
            ),
            (TraceEvent::Reply { text: "WORKER-1-7" }, "reply: WORKER-1-7"),
        ];
        for (line, text) in lines {
            assert_eq!(line.to_string(), text);
        }
    }

    #[test]
    fn a_long_request_is_counted_and_truncated() {
        let text = TraceEvent::Received { bytes: &[7; 1000] }.to_string();
        assert!(text.starts_with("<<< 1000 bytes: { 7, 7, "), "{text}");
        assert!(text.ends_with(", 7, ... }"), "{text}");
        assert_eq!(text.matches('7').count(), BYTES_SHOWN);
    }

    #[cfg(feature = "json")]
    #[test]
    fn as_json_an_event_is_one_object_with_the_same_words() {
        let got =
            TraceEvent::Got { machine: "RX-4", state: "WORK", event: Event::D(0), from: "OS" };
        let json = r#"{"event":"got","machine":"RX-4","state":"WORK","got":"D0","from":"OS"}"#;
        assert_eq!(got.to_json(), json);
    }
}
