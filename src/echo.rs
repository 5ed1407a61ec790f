//! Connection handlers: how a server serves a connection. One module per protocol; the accept loop,
//! the limits and the drain belong to the server and are the same for all.

// The program's styles: only its options construct them.
#[cfg_attr(not(feature = "serve"), allow(dead_code))]
pub(crate) mod broadcast;
pub mod callback;
#[cfg_attr(not(feature = "serve"), allow(dead_code))]
mod chaos;
mod end;
mod exchange;
mod handler;
mod plain;
#[cfg_attr(not(feature = "serve"), allow(dead_code))]
mod staged;
mod turns;

pub(crate) use chaos::ChaosTarget;
pub use end::EndReason;
pub(crate) use exchange::reset_by;
pub(crate) use handler::SharedHandler;
pub use handler::{Handler, ServerContext};
pub use plain::Plain;
pub use turns::{Begin, ServeInTask, Turn, Turns};
#[cfg(feature = "serve")]
pub(crate) use {
    broadcast::Broadcast,
    callback::Callback,
    chaos::Chaos,
    staged::{REQUEST_BYTES_MAX_DEFAULT, REQUEST_TIMEOUT_DEFAULT, Staged},
};

pub use crate::stage::Signal;
