//! The tokio peers: a task per connection, on all cores or on one thread.

use std::io;
use std::net::TcpListener;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Builder;

use crate::BUFFER_BYTES;

/// The pause of accepting after running out of descriptors.
const PAUSE: Duration = Duration::from_millis(10);

/// A worker thread per core, which is tokio's default.
pub(crate) fn on_all_cores(listener: TcpListener) -> io::Result<()> {
    let runtime = Builder::new_multi_thread().enable_io().enable_time().build()?;
    // As a task, because workers do not run the future of `block_on` itself.
    runtime.block_on(async { tokio::spawn(accept(listener)).await })?
}

/// All tasks on the calling thread.
pub(crate) fn on_one_thread(listener: TcpListener) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    runtime.block_on(accept(listener))
}

async fn accept(listener: TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(echo(stream))),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let received = stream.read(&mut buffer).await?;
        if received == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..received]).await?;
    }
}
