//! One client of the status server: its request, the response, the end.

use std::io;

use super::access::{self, Denied, Resource};
use super::metrics::MetricsFormat;
use super::request::Request;
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
        Ok(resource) => short(resource, &request, shared).unwrap_or_else(|| {
            Response::to_denied(Denied::NotFound, &request, &shared.url, &shared.served)
        }),
    };
    respond(stream, &response, body)
}

/// The response with a resource that is sent at once; `None` if this program has none.
fn short(resource: Resource, request: &Request, shared: &Shared) -> Option<Response> {
    let source = &shared.source;
    match resource {
        Resource::Page => Some(Response::page()),
        Resource::Events => None,
        Resource::Snapshot => {
            let snapshot = source.snapshot.as_ref()?;
            Some(Response::ok("application/json", snapshot()))
        }
        Resource::Health => Some(Response::health(source.health.as_ref()?())),
        Resource::Metrics => {
            let format = MetricsFormat::for_client(request.accept.as_deref());
            let text = source.metrics.as_ref()?(format);
            Some(Response::ok(format.content_type(), text).with("Vary", "Accept"))
        }
    }
}

/// Reads the request of a client beyond the limit, so that the response is not lost, and rejects it. Only
/// what is public is sent anyway: viewers must not make a server look unhealthy.
pub(super) fn reject(stream: Stream, shared: &Shared) -> io::Result<()> {
    let mut response = Response::busy();
    let body = match request::read(&stream) {
        Err(request::RequestError::Gone) => return Ok(()),
        Ok(request) => {
            if let Ok(resource) = access::check(&request, &shared.hosts, &shared.served)
                && resource.is_public()
            {
                response = short(resource, &request, shared).unwrap_or(response);
            }
            if request.method == "HEAD" { Body::Omitted } else { Body::Sent }
        }
        Err(_) => Body::Sent,
    };
    respond(stream, &response, body)
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
