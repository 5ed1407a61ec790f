//! Compiles the peers that are written in C.

fn main() {
    println!("cargo::rerun-if-changed=c");
    cc::Build::new().files(["c/threads.c", "c/epoll.c"]).opt_level(2).compile("peers");
}
