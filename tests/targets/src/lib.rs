//! A library with unit tests.

#[cfg(test)]
#[macro_use]
extern crate echown_test;

/// A file that nothing closes.
pub fn leak() {
    std::mem::forget(std::fs::File::open("Cargo.toml"));
}

#[test]
#[should_panic(expected = "on purpose")]
fn panics() {
    panic!("on purpose");
}

#[test]
fn returns() -> Result<(), String> {
    Ok(())
}
