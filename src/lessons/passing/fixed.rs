//! A server passes the socket of a client to a worker.

use std::error::Error;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};

use echown::ownership::own_fd;
use rustix::cmsg_space;
use rustix::net::{self, RecvAncillaryMessage, SendAncillaryMessage};

fn send(channel: &UnixDatagram, fd: &UnixStream) -> io::Result<usize> {
    let fds = [fd.as_fd()];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = net::SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    Ok(net::sendmsg(channel, &[], &mut control, net::SendFlags::empty())?)
}

fn receive(channel: &UnixDatagram) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = net::RecvAncillaryBuffer::new(&mut space);
    let flags = net::RecvFlags::CMSG_CLOEXEC;
    net::recvmsg(channel, &mut [], &mut control, flags)?;
    Ok(control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    }))
}

pub fn run() -> Result<(), Box<dyn Error>> {
    let (channel, worker) = UnixDatagram::pair()?;
    let (socket, _client) = UnixStream::pair()?;
    let socket = own_fd(socket)?;
    socket.try_with(|socket| send(&channel, socket))?;
    drop(socket); // The worker has its own number.
    own_fd(receive(&worker)?.expect("one was sent"))?.release()?;
    Ok(())
}
