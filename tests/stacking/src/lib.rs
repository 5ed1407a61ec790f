//! What the tests leave open, or do not.

use std::fs::File;
use std::mem::forget;

/// Opens a file and closes it.
pub fn clean() {
    drop(open());
}

/// Opens a file and leaves it open.
pub fn leak() {
    forget(open());
}

/// Opens a file.
pub fn open() -> File {
    File::open("/dev/null").expect("/dev/null is readable")
}

/// Leaves a file open if `leaks`.
pub fn leak_if(leaks: bool) {
    if leaks {
        leak();
    } else {
        clean();
    }
}
