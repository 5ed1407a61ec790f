//! One client of the status server: its request, the response, the end.

use std::io;

use super::access::{self, Denied, Resource};
use super::response::Response;
use super::{Shared, events, request, send};
use crate::net::Stream;

/// Serves one request.
pub(super) fn serve(stream: Stream, shared: &Shared) -> io::Result<()> {
    let request = match request::read(&stream) {
        Ok(request) => request,
        Err(error) => match Response::to_no_request(error) {
            Some(response) => return respond(stream, &response, Body::Sent),
            None => return Ok(()),
        },
    };
    let body = if request.method == "HEAD" { Body::Omitted } else { Body::Sent };
    let response = match access::check(&request, &shared.hosts, &shared.served) {
        Err(denied) => Response::to_denied(denied, &request, &shared.url, &shared.served),
        Ok(Resource::Page) => Response::page(),
        Ok(Resource::Events) if body == Body::Omitted => {
            send::send(&stream, &events::head())?;
            return send::finish(stream);
        }
        Ok(Resource::Events) => match (shared.source.begin)() {
            Ok(mut lines) => {
                events::stream(&stream, &mut *lines, shared)?;
                return send::finish(stream);
            }
            Err(error) => Response::failed(&error),
        },
        Ok(Resource::Snapshot) => match &shared.source.snapshot {
            Some(snapshot) => Response::ok("application/json", snapshot()),
            None => Response::to_denied(Denied::NotFound, &request, &shared.url, &shared.served),
        },
    };
    respond(stream, &response, body)
}

/// Reads the request of a client beyond the limit, so that the response is not lost, and rejects it.
pub(super) fn reject(stream: Stream) -> io::Result<()> {
    let body = match request::read(&stream) {
        Err(request::RequestError::Gone) => return Ok(()),
        Ok(request) if request.method == "HEAD" => Body::Omitted,
        Ok(_) | Err(_) => Body::Sent,
    };
    respond(stream, &Response::busy(), body)
}

/// Whether the response to a request has a body.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Body {
    Sent,
    Omitted,
}

fn respond(stream: Stream, response: &Response, body: Body) -> io::Result<()> {
    let mut bytes = response.head.to_bytes(Some(response.body.len()));
    if body == Body::Sent {
        bytes.extend(&response.body);
    }
    send::send(&stream, &bytes)?;
    send::finish(stream)
}
