//! The listeners, stop pipes and reserve descriptors of a server.

use std::io;

use super::ServerSettings;
use super::error::ServerError;
#[cfg(target_os = "linux")]
use super::parking::WaitResources;
use super::reserve::ReserveFd;
use crate::bind::{self, Bound, Listening, Planned, Purpose, SocketFile};
use crate::net::{
    self, Address, Endpoint, Listener, ListenerOptions, PipeReader, PipeWriter, Stream,
};
use crate::ownership::{Give, Resource};

/// A bound address and the resources of its acceptors.
pub(super) struct BoundAddress {
    /// The numeric address.
    pub(super) name: String,
    address: Address,
    /// As the user wrote it.
    endpoint: Endpoint,
    /// For each acceptor: the write end of its stop pipe, and its resources.
    pub(super) acceptors: Vec<(PipeWriter, AcceptorResources)>,
    /// The other ends of their [`probe`](AcceptorResources::probe)s.
    #[cfg_attr(not(feature = "serve"), allow(dead_code))]
    pub(super) probes: Vec<Stream>,
    /// The Unix socket's file, removed when this is dropped.
    pub(super) path: Option<SocketFile>,
}

impl BoundAddress {
    pub(super) fn bound(&self) -> Bound<'_> {
        Bound { name: &self.name, file: self.path.as_ref(), option: "--listen" }
    }

    pub(super) fn listening(&self) -> Listening {
        let listeners = self.acceptors.iter().map(|(_, resources)| resources.listener.resource());
        Listening {
            purpose: Purpose::Echo,
            endpoint: self.endpoint.clone(),
            address: self.address.clone(),
            listeners: listeners.collect(),
            file: self.path.as_ref().map(SocketFile::keeper),
        }
    }

    /// Limits the kernel's buffers of each accepted connection to this many bytes each.
    pub(super) fn limit_buffers(&mut self, bytes: u64) -> Result<(), ServerError> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        for (_, resources) in &mut self.acceptors {
            if let Some(later) = &mut resources.later {
                later.buffer_bytes = Some(bytes);
                continue;
            }
            let limited = resources.listener.limit_buffers(bytes);
            limited.map_err(|error| {
                let name = &self.name;
                let text = format!("failed to limit the buffers of connections to {name}: {error}");
                ServerError::caused(text, error)
            })?;
        }
        Ok(())
    }
}

/// The resources of one acceptor, all owned.
pub(super) struct AcceptorResources {
    pub(super) listener: Listener,
    pub(super) stop: PipeReader,
    pub(super) reserve: ReserveFd,
    pub(super) later: Option<LaterOptions>,
    /// With parking: what it waits with for its connections.
    #[cfg(target_os = "linux")]
    pub(super) wait: Option<WaitResources>,
    /// A connection of the server to itself, which is parked with those of clients.
    #[cfg(target_os = "linux")]
    pub(super) probe: Option<Stream>,
}

impl Give for AcceptorResources {
    fn list(&self, resources: &mut Vec<Resource>) {
        self.listener.list(resources);
        self.stop.list(resources);
        self.reserve.list(resources);
        #[cfg(target_os = "linux")]
        self.wait.list(resources);
        #[cfg(target_os = "linux")]
        self.probe.list(resources);
    }
}

/// The options of a listener that another server still accepts from. Both have one socket, so they would
/// change what its connections get, for good if this process then fails to start.
pub(super) struct LaterOptions {
    options: ListenerOptions,
    buffer_bytes: Option<usize>,
}

impl LaterOptions {
    /// Sets the options; the other server has handed over.
    ///
    /// # Errors
    /// Errors of the system calls and the registry.
    pub(super) fn apply_to(&self, listener: &mut Listener) -> io::Result<()> {
        self.options.apply_to(listener)?;
        self.options.set_backlog(listener)?;
        self.buffer_bytes.map_or(Ok(()), |bytes| listener.limit_buffers(bytes))
    }
}

/// Opens the resources of all addresses.
#[track_caller]
pub(super) fn open_all(
    planned: Vec<Planned>,
    settings: &ServerSettings,
    is_probed: bool,
) -> Result<Vec<BoundAddress>, ServerError> {
    let mut addresses = Vec::with_capacity(planned.len());
    for planned in planned {
        let endpoint = planned.endpoint.clone();
        match open(planned, settings, is_probed) {
            Ok(address) => addresses.push(address),
            Err(error) => {
                let bound: Vec<Bound<'_>> = addresses.iter().map(BoundAddress::bound).collect();
                let cause = bind::cause(&endpoint, &error, &bound, "--listen");
                let text = format!("failed to listen on {endpoint}: {cause}");
                return Err(ServerError::caused(text, error));
            }
        }
    }
    Ok(addresses)
}

/// Descriptors of one acceptor: its listener, both ends of the stop pipe, the reserve.
pub(super) const DESCRIPTORS_PER_ACCEPTOR: u64 = 4;

/// What an acceptor or a worker waits with: an epoll instance and the two ends of what wakes it.
pub(super) const DESCRIPTORS_PER_WAIT: u64 = 3;

/// Opens the resources of one address.
#[track_caller]
fn open(planned: Planned, settings: &ServerSettings, is_probed: bool) -> io::Result<BoundAddress> {
    let endpoint = planned.endpoint.clone();
    let count = planned.acceptors(settings.acceptors.get());
    let options = options(settings);
    let later = bind::later_options(&planned, &options);
    let (mut listeners, path) = bind::listen(planned, &options)?;
    let first = &listeners[0];
    let address = first.local_addr()?;
    let name = address.to_string();
    let clones = (listeners.len()..count).map(|_| first.reuse_port_clone(settings.backlog));
    let clones = clones.collect::<io::Result<Vec<Listener>>>()?;
    listeners.extend(clones);
    let mut acceptors = Vec::with_capacity(count);
    let mut probes = Vec::new();
    for listener in listeners {
        let (stop, order) = net::pipe()?;
        let reserve = ReserveFd::new(&stop)?;
        let later = later.clone().map(|options| LaterOptions { options, buffer_bytes: None });
        #[cfg(target_os = "linux")]
        let wait = settings.park.map(|_| WaitResources::new()).transpose()?;
        let pair = settings.park.filter(|_| is_probed).map(|_| Stream::pair()).transpose()?;
        let (probe, other) = pair.unzip();
        probes.extend(other);
        let resources = AcceptorResources {
            listener,
            stop,
            reserve,
            later,
            #[cfg(target_os = "linux")]
            wait,
            #[cfg(target_os = "linux")]
            probe,
        };
        acceptors.push((order, resources));
    }
    Ok(BoundAddress { name, address, endpoint, acceptors, probes, path })
}

/// What every listener of the server has.
fn options(settings: &ServerSettings) -> ListenerOptions {
    // An echo has no more data to wait for: with Nagle's algorithm a last short segment would wait for
    // the acknowledgement of the one before, which a peer may delay by 40 ms.
    let options = Listener::options().backlog(settings.backlog).nodelay(true);
    options.write_timeout(settings.write_timeout).keep_alive(settings.keep_alive)
}
