//! Two nodes that hold each other, and a socket in one of them.

use std::cell::RefCell;
use std::io;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

#[derive(Default)]
pub struct Node {
    next: RefCell<Option<Rc<Node>>>,
    socket: RefCell<Option<UnixStream>>,
}

/// The fault: `parent` should be `Weak`.
pub fn family() -> io::Result<Rc<Node>> {
    let (ours, _theirs) = UnixStream::pair()?;
    let (parent, child) = (Rc::new(Node::default()), Rc::new(Node::default()));
    *parent.next.borrow_mut() = Some(Rc::clone(&child));
    *child.next.borrow_mut() = Some(Rc::clone(&parent));
    *child.socket.borrow_mut() = Some(ours);
    Ok(parent)
}
