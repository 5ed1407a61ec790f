//! Many tests at once, leaking and clean in turn: the path of each leak has a unique name.

use std::fs::File;
use std::net::TcpListener;

fn file(name: &str) -> File {
    let path = std::env::temp_dir().join(format!("downstream-crowd-{name}-{}", std::process::id()));
    let file = File::create(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    file
}

macro_rules! crowd {
    ($($guilty:ident $innocent:ident)+) => {$(
        //~ fails | left 1 descriptor open | downstream-crowd-$guilty-
        #[echown::test]
        fn $guilty() {
            std::mem::forget(file(stringify!($guilty)));
        }

        //~ passes
        #[echown::test]
        fn $innocent() {
            let _listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let _file = file(stringify!($innocent));
        }
    )+};
}

crowd! {
    guilty_1 innocent_1
    guilty_2 innocent_2
    guilty_3 innocent_3
    guilty_4 innocent_4
    guilty_5 innocent_5
    guilty_6 innocent_6
    guilty_7 innocent_7
    guilty_8 innocent_8
}
