//! The options of `--style broadcast`.

use bytesize::ByteSize;
use clap::{Args, ValueEnum};

use super::StyleName;
use crate::echo::Broadcast;
use crate::echo::broadcast::{FRAME_MAX_DEFAULT, OUTBOX_MAX_DEFAULT, SlowReader};

/// What concerns the broadcast style alone.
#[derive(Args)]
pub(super) struct BroadcastArguments {
    /// Close a client that announces a longer frame, and say so. Memory is taken for what has
    /// arrived, never for what is announced. [default: 16MiB]
    #[arg(long, help_heading = "Broadcast", value_name = "SIZE", value_parser = size)]
    max_frame: Option<usize>,

    /// The most that waits for one client, as in `512KiB`. Then `--slow-reader` decides. A frame that
    /// is longer than this waits alone. [default: 4MiB]
    #[arg(long, help_heading = "Broadcast", value_name = "SIZE", value_parser = size)]
    max_outbox: Option<usize>,

    /// What is done with a client for which too much waits. The others are never held up by it.
    /// [default: disconnect]
    #[arg(long, help_heading = "Broadcast", value_name = "POLICY")]
    slow_reader: Option<SlowReaderName>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SlowReaderName {
    /// Disconnect it: it has missed something, and learns of that.
    Disconnect,
    /// Drop the frames that have waited longest: it stays, with gaps.
    DropOldest,
}

impl BroadcastArguments {
    /// Whether none of them was given.
    ///
    /// # Errors
    /// One was, in words.
    pub(super) fn attest_none(&self, style: StyleName) -> Result<(), String> {
        let given = [
            ("--max-frame", self.max_frame.is_some()),
            ("--max-outbox", self.max_outbox.is_some()),
            ("--slow-reader", self.slow_reader.is_some()),
        ];
        match given.iter().find(|(_, is_given)| *is_given) {
            Some((option, _)) => Err(format!(
                "{option} is an option of --style broadcast, and what is asked for is --style {style}"
            )),
            None => Ok(()),
        }
    }

    /// The style, as it is asked for.
    pub(super) fn build(&self) -> Broadcast {
        let slow_reader = match self.slow_reader {
            None | Some(SlowReaderName::Disconnect) => SlowReader::Disconnect,
            Some(SlowReaderName::DropOldest) => SlowReader::DropOldest,
        };
        Broadcast::new(
            self.max_frame.unwrap_or(FRAME_MAX_DEFAULT),
            self.max_outbox.unwrap_or(OUTBOX_MAX_DEFAULT),
            slow_reader,
        )
    }
}

/// A size in bytes, with or without a unit.
pub(in crate::cli) fn size(text: &str) -> Result<usize, String> {
    let wrong = |why: &str| format!("{why}; expected a size such as `65536`, `64KiB` or `16MiB`");
    let size: ByteSize = text.parse().map_err(|error: String| wrong(&error))?;
    match usize::try_from(size.as_u64()) {
        Ok(0) => Err(wrong("nothing fits into no bytes")),
        Ok(bytes) => Ok(bytes),
        Err(_) => Err(wrong("no memory is that large")),
    }
}
