//! System calls: the only module of this crate that contains `unsafe`.
#![allow(unsafe_code)]

pub mod at_exit;
mod cookies;
pub mod fd;
pub mod inherit_fds;
pub mod open;
mod rare_socket;
pub mod shared_map;
pub mod timeout;
pub mod trap;
pub mod unix_address;
