//! An allocator that opens a file, as the C library's does before it shrinks a heap.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

use downstream::closes;

struct Opening;

/// From the test's body on.
static OPENS: AtomicBool = AtomicBool::new(false);

thread_local! {
    static IS_OPENING: Cell<bool> = const { Cell::new(false) };
}

unsafe impl GlobalAlloc for Opening {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A list of stacks is larger than this; smaller allocations would only cost time.
        let is_large = layout.size() >= 2048 && OPENS.load(Ordering::Relaxed);
        if is_large && !IS_OPENING.replace(true) {
            closes::close(closes::open());
            IS_OPENING.set(false);
        }
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Opening = Opening;

#[echown::test]
fn a_double_close_under_an_allocator_that_opens_files() {
    OPENS.store(true, Ordering::Relaxed);
    closes::twice();
}
