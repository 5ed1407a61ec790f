//! Errors for another task, for a use after release, and for a leaked handle.

use std::io::{self, IoSliceMut, Read, Write};
use std::net::Shutdown;

use echown::net::{Listener, Stream};
use echown::ownership::{Error, ErrorKind, Registry};
use echown::test;
use echown::thread::spawn_named;

use super::{clean, kind_of, quiet, run};

#[test]
fn a_read_by_another_task_fails_and_the_owner_gets_the_bytes() {
    let registry = quiet();
    run(&registry, || {
        let (mut one, mut other) = Stream::pair().unwrap();
        other.write_all(b"private").unwrap();
        std::thread::scope(|threads| {
            threads.spawn(|| {
                let mut buffer = [0; 7];
                for error in [
                    (&one).read(&mut buffer).unwrap_err(),
                    (&one).read_vectored(&mut [IoSliceMut::new(&mut buffer)]).unwrap_err(),
                    one.peek(&mut buffer).unwrap_err(),
                    (&one).write(b"forged").unwrap_err(),
                    one.shutdown(Shutdown::Both).unwrap_err(),
                    one.peer_addr().unwrap_err(),
                ] {
                    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
                    let inner = Error::in_io(&error).unwrap();
                    assert_eq!(inner.kind(), ErrorKind::NotOwner);
                    assert_eq!(&*inner.owner().unwrap().name, "test");
                    assert_eq!(inner.site().file(), file!(), "the site is in the caller's code");
                    assert!(error.to_string().contains("expected owner task"), "{error}");
                }
                assert_eq!(buffer, [0; 7]);
                assert_eq!(one.close().unwrap_err().kind(), ErrorKind::NotOwner);
            });
        });
        let mut buffer = [0; 7];
        one.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"private");
        other.set_nonblocking(true).unwrap();
        assert_eq!(other.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    });
    assert_eq!(registry.summary().violations, 7);
}

#[test]
fn io_copy_passes_on_the_registrys_error() {
    let registry = quiet();
    run(&registry, || {
        let (one, _other) = Stream::pair().unwrap();
        let stream = &one;
        let error = std::thread::scope(|threads| {
            threads.spawn(move || io::copy(&mut &*stream, &mut io::sink()).unwrap_err()).join()
        });
        assert_eq!(kind_of(&error.unwrap()), ErrorKind::NotOwner);
    });
}

#[test]
fn a_second_close_fails_and_names_the_first() {
    let registry = quiet();
    run(&registry, || {
        let (one, _other) = Stream::pair().unwrap();
        let line = line!() + 1;
        one.close().unwrap();
        let error = one.close().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DoubleRelease);
        let first = error.earlier_site().unwrap();
        assert_eq!((first.file(), first.line()), (file!(), line));
        assert!(error.to_string().contains(&format!("first released at {first}")), "{error}");
        let error = (&one).read(&mut [0]).unwrap_err();
        assert_eq!(kind_of(&error), ErrorKind::UseAfterRelease);
    });
}

#[test]
fn debug_shows_number_and_owner_and_custody_has_the_callers_line() {
    clean(|| {
        let registry = &Registry::current();
        let line = line!() + 1;
        let listener = Listener::bind("127.0.0.1:0").unwrap();
        let described = listener.describe();
        assert_eq!((described.acquired.file(), described.acquired.line()), (file!(), line));
        let number = described.number.unwrap();
        let text = format!("{listener:?}");
        assert!(text.starts_with(&format!("Listener(fd {number} (tcp listener), Held")), "{text}");
        assert!(text.ends_with(&format!(" by {})", registry.current_task())), "{text}");

        let address = listener.local_addr().unwrap().inet().unwrap();
        let lines = line!() + 1;
        let client = Stream::connect(address).unwrap();
        let (server, _) = listener.accept().unwrap();
        assert_eq!(client.describe().acquired.line(), lines);
        assert_eq!(server.describe().acquired.line(), lines + 1);
        assert_eq!(server.describe().acquired.file(), file!());
    });
}

#[test]
fn an_offered_stream_belongs_to_the_task_that_claims_it() {
    clean(|| {
        let (one, mut other) = Stream::pair().unwrap();
        let offer = one.offer().unwrap();
        let worker = spawn_named("worker", [], move || {
            let mut stream = offer.claim().unwrap();
            stream.write_all(b"claimed").unwrap();
        })
        .unwrap();
        worker.join().unwrap();
        let mut heard = String::new();
        other.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "claimed");
    });
}
