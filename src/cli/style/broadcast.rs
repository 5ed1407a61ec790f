//! The options of `--style broadcast`.

use clap::{Args, ValueEnum};

use super::super::units::size;
use crate::echo::Broadcast;
use crate::echo::broadcast::{FRAME_MAX_DEFAULT, SEND_QUEUE_MAX_DEFAULT, SlowReader};

/// Options of the broadcast style.
#[derive(Args)]
#[command(next_help_heading = "With --style broadcast")]
pub(super) struct BroadcastArguments {
    /// Close a client that announces a longer frame, and say so. Memory is taken for what has
    /// arrived, never for what is announced. [default: 16MiB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_frame: Option<usize>,

    /// The most that waits for one client, as in `512KiB`: bytes of the wire, and 96 for each frame's
    /// keeping. Then `--slow-reader` decides. A frame that is longer than this waits alone. [default:
    /// 4MiB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_outbox: Option<usize>,

    /// What is done with a client for which too much waits. The others are never held up by it.
    /// [default: disconnect]
    #[arg(long, value_name = "POLICY")]
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
    /// The first of these options that was given.
    pub(super) fn given(&self) -> Option<&'static str> {
        let given = [
            ("--max-frame", self.max_frame.is_some()),
            ("--max-outbox", self.max_outbox.is_some()),
            ("--slow-reader", self.slow_reader.is_some()),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(option, _)| option)
    }

    /// Builds the handler.
    pub(super) fn build(&self) -> Broadcast {
        let slow_reader = match self.slow_reader {
            None | Some(SlowReaderName::Disconnect) => SlowReader::Disconnect,
            Some(SlowReaderName::DropOldest) => SlowReader::DropOldest,
        };
        Broadcast::new(
            self.max_frame.unwrap_or(FRAME_MAX_DEFAULT),
            self.max_outbox.unwrap_or(SEND_QUEUE_MAX_DEFAULT),
            slow_reader,
        )
    }
}
