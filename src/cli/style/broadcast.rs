//! The options of `--style broadcast`.

use clap::{Args, ValueEnum};

use super::super::units::size;
use crate::echo::Broadcast;
use crate::echo::broadcast::{FRAME_MAX_DEFAULT, SEND_QUEUE_MAX_DEFAULT, SlowReader};

/// Options of the broadcast style.
#[derive(Args)]
#[command(next_help_heading = "With --style broadcast")]
pub(super) struct BroadcastArguments {
    /// Maximum frame length. A client that announces a longer frame is disconnected, and the reason is
    /// logged. Memory is allocated for received bytes only, not for the announced length.
    /// [default: 16MiB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_frame: Option<usize>,

    /// Maximum size of the send queue of one client, as in `512KiB`: bytes on the wire plus 96 per
    /// frame. `--slow-reader` decides what happens beyond it. A longer frame is queued alone.
    /// [default: 4MiB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_send_queue: Option<usize>,

    /// What happens to a client whose send queue is full. It never delays other clients.
    /// [default: disconnect]
    #[arg(long, value_name = "POLICY")]
    slow_reader: Option<SlowReaderName>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SlowReaderName {
    /// Disconnect it.
    Disconnect,
    /// Drop its oldest frames.
    DropOldest,
}

impl BroadcastArguments {
    /// The first of these options that was given.
    pub(super) fn given(&self) -> Option<&'static str> {
        let given = [
            ("--max-frame", self.max_frame.is_some()),
            ("--max-send-queue", self.max_send_queue.is_some()),
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
            self.max_send_queue.unwrap_or(SEND_QUEUE_MAX_DEFAULT),
            slow_reader,
        )
    }
}
