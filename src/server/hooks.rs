//! What a program does at the turning points of its server.

use crate::net::PipeWriter;

/// Called on the task that serves, and in this order.
pub(crate) trait ServerHooks {
    /// Everything is open and no client was accepted. Returns pipes that are closed with the first
    /// command.
    ///
    /// # Errors
    /// The server must not accept: the message for the user.
    fn before_accepting(&mut self) -> Result<Vec<PipeWriter>, String> {
        Ok(Vec::new())
    }

    /// All acceptors run.
    fn accepting(&mut self) {}

    /// The server failed to start and accepts nothing.
    fn not_accepting(&mut self) {}

    /// Another process serves the addresses now. Connections go on.
    fn handed_over(&mut self) {}

    /// The last connection has ended, and the handler is still open.
    fn at_end(&mut self) {}
}

/// A program that does nothing then.
impl ServerHooks for () {}
