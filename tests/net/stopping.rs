//! Accepting until a stop is requested.

use std::io::{Read, Write};

use echown::net::{Address, Listener, Stream, pipe};
use echown::ownership::{ErrorKind, Registry};
use echown::test;
use echown::thread::spawn_named;

use super::{Place, assert_carries_both_ways, clean, kind_of, let_block, quiet, run};

#[test]
fn a_waiting_client_is_served_before_the_stop_takes_effect() {
    let place = Place::new("stop");
    clean(|| {
        for listener in
            [Listener::bind("127.0.0.1:0").unwrap(), Listener::bind_unix(&place.0).unwrap()]
        {
            let address = listener.local_addr().unwrap();
            let clients: Vec<_> = (0..3).map(|_| Stream::connect_to(&address).unwrap()).collect();
            let (stopped, mut stop) = pipe().unwrap();
            stop.write_all(b"!").unwrap();
            for mut client in clients {
                let (mut server, _) = listener.accept_or_stop(&stopped).unwrap().unwrap();
                client.write_all(b"x").unwrap();
                server.read_exact(&mut [0]).unwrap();
            }
            assert!(listener.accept_or_stop(&stopped).unwrap().is_none());
            assert!(listener.accept_or_stop(&stopped).unwrap().is_none(), "the option stays on");
            // The listener still works: it was not shut down.
            assert_carries_both_ways(
                &listener,
                if address.inet().is_some() { "tcp stream" } else { "unix stream" },
            );
        }
    });
}

#[test]
fn a_stop_is_noticed_while_clients_keep_arriving() {
    /// The size of a backlog, and the clients before the first check of the stop.
    const MOST: usize = 16 + 64 + 1;
    let place = Place::new("rush");
    clean(|| {
        let options = Listener::options().backlog(64);
        for listener in [options.bind("127.0.0.1:0").unwrap(), options.bind_unix(&place.0).unwrap()]
        {
            let address = listener.local_addr().unwrap();
            let visit = || drop(Stream::connect_to(&address).unwrap());
            let (stopped, mut stop) = pipe().unwrap();
            stop.write_all(b"!").unwrap();
            (0..5).for_each(|_| visit());
            let mut accepted = 0;
            while let Some(client) = listener.accept_or_stop(&stopped).unwrap() {
                drop(client);
                accepted += 1;
                assert!(accepted <= MOST, "{address}: {accepted}");
                // For each accepted client another one connects.
                visit();
            }
            assert!(accepted >= 5, "{address}: {accepted} of the waiting clients");
        }
    });
}

#[test]
fn releasing_the_write_end_stops_a_waiting_acceptor() {
    clean(|| {
        let listener = Listener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stopped, stop) = pipe().unwrap();
        let given = [listener.resource(), stopped.resource()];
        let acceptor = spawn_named("acceptor", given, move || {
            let mut served = 0;
            while let Some((mut stream, _)) = listener.accept_or_stop(&stopped).unwrap() {
                stream.write_all(b"served").unwrap();
                served += 1;
            }
            served
        })
        .unwrap();
        for _ in 0..3 {
            let mut client = Stream::connect_to(&address).unwrap();
            let mut text = String::new();
            client.read_to_string(&mut text).unwrap();
            assert_eq!(text, "served");
        }
        let_block(&acceptor);
        stop.release().unwrap();
        assert_eq!(acceptor.join().unwrap(), 3);
    });
}

#[test]
fn the_stop_pipe_must_be_owned_by_the_acceptor() {
    let registry = quiet();
    run(&registry, || {
        let listener = Listener::bind("127.0.0.1:0").unwrap();
        let (stopped, _stop) = pipe().unwrap();
        let given = [listener.resource()];
        Registry::current()
            .run_inline("child", given, || {
                let error = listener.accept_or_stop(&stopped).unwrap_err();
                assert_eq!(kind_of(&error), ErrorKind::NotOwner);
                listener.close().unwrap();
            })
            .unwrap();
    });
}

#[test]
fn a_client_with_the_longest_path_is_accepted() {
    let place = Place::new("longest");
    clean(|| {
        let listener = Listener::bind_unix(&place.0).unwrap();
        // 108 bytes: the maximum of a Unix address, without space for a terminating NUL.
        let mut name = std::env::temp_dir().join(format!("echown-{}-", std::process::id()));
        let filled = name.as_os_str().len();
        name.as_mut_os_string().push("n".repeat(108 - filled));
        let name = Place(name);
        let client = rustix::net::socket(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::STREAM,
            None,
        )
        .unwrap();
        let bound = rustix::net::SocketAddrUnix::new(&name.0)
            .and_then(|name| rustix::net::bind(&client, &name));
        if bound.is_err() {
            return;
        }
        let to = rustix::net::SocketAddrUnix::new(&place.0).unwrap();
        rustix::net::connect(&client, &to).unwrap();
        let (server, peer) = listener.accept().unwrap();
        assert_eq!(peer, Address::Path(name.0.clone()));
        assert_eq!(server.peer_addr().unwrap(), peer);
        assert_eq!(server.describe().peer, Some(format!("unix:{}", name.0.display())));
    });
}
