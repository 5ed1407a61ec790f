//! What people and machines read: the only room that formats findings.

mod text;

#[cfg(feature = "json")]
mod json;
