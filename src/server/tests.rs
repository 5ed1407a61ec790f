//! Tests of the server: its commands, and their order.

use super::*;
use crate::echo::Plain;

#[test]
fn a_server_stops_from_the_first_command_on_whichever_it_is() {
    for command in [Control::Drain, Control::Abort] {
        let endpoints = ["127.0.0.1:0".parse().expect("it is valid")];
        let settings = ServerSettings::default();
        let registry = Registry::new();
        let server = Server::bind(&registry, &endpoints, settings, Arc::new(Plain)).unwrap();
        let control = server.control();
        assert!(!control.is_stopping());
        control.send(command);
        assert!(control.is_stopping(), "{command:?}, before the server has seen it");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_command_that_is_queued_before_the_hand_over_ends_idle_connections() {
    use std::io::{Read, Write};

    use crate::ownership::Process;

    let endpoints = ["127.0.0.1:0".parse().expect("it is valid")];
    let hour = Duration::from_secs(3600);
    let settings = ServerSettings { drain_timeout: hour, ..ServerSettings::default() };
    let server = Server::bind(&Registry::new(), &endpoints, settings, Arc::new(Plain)).unwrap();
    let (control, listening) = (server.control(), server.listening());
    let mut idle = std::net::TcpStream::connect(server.addresses().next().unwrap()).unwrap();
    let client = std::thread::spawn(move || {
        idle.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        idle.write_all(b"x").unwrap();
        idle.read_exact(&mut [0]).unwrap();
        let handed_over = control.hand_over(|| {
            listening.iter().for_each(|address| address.hand_over_to(&Process::new(4711)));
            control.events().send(ServerEvent::Control(Control::Drain)).unwrap();
        });
        // The end of the stream, not a timeout.
        (handed_over, idle.read(&mut [0]).ok())
    });
    server.serve().unwrap();
    assert_eq!(client.join().unwrap(), (true, Some(0)));
}

#[test]
fn a_server_that_stops_before_it_accepts_is_never_ready() {
    #[derive(Default)]
    struct Seen(Option<ControlHandle>, bool);
    impl ServerHooks for Seen {
        fn before_accepting(&mut self) -> Result<Vec<PipeWriter>, String> {
            self.0.take().expect("it is called once").send(Control::Drain);
            Ok(Vec::new())
        }
        fn accepting(&mut self) {
            self.1 = true;
        }
    }
    let endpoints = ["127.0.0.1:0".parse().expect("it is valid")];
    let settings = ServerSettings::default();
    let server = Server::bind(&Registry::new(), &endpoints, settings, Arc::new(Plain)).unwrap();
    let mut seen = Seen(Some(server.control()), false);
    server.serve_with(&mut seen).unwrap();
    assert!(!seen.1);
}

#[test]
fn a_handler_without_turns_is_rejected_before_anything_is_opened() {
    struct Silent;
    impl crate::echo::Handler for Silent {
        fn name(&self) -> &'static str {
            "silent"
        }

        fn serve(&self, _: crate::net::Stream) -> std::io::Result<()> {
            Ok(())
        }
    }
    let registry = Registry::new();
    let settings = ServerSettings { park: NonZeroUsize::new(1), ..ServerSettings::default() };
    let endpoints = ["127.0.0.1:0".parse().unwrap()];
    let rejected = Server::bind(&registry, &endpoints, settings, Arc::new(Silent)).unwrap_err();
    let expected = if cfg!(target_os = "linux") {
        "connections of `silent` cannot be parked: it does not serve in turns"
    } else {
        "connections are parked in an epoll instance, which only Linux has"
    };
    assert_eq!(rejected.to_string(), expected);
    assert!(registry.snapshot().resources.is_empty());
}
