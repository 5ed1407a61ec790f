//! Offers: a resource that is sent through a channel has an owner in transit, too.
//!
//! The main task offers letters and sends them to a worker, which claims two of them and drops the
//! third offer. It prints
//!
//! ```text
//! the worker reads: first
//! the worker reads: second
//! unclaimed: resource 3 (String) offered, but never claimed (owned at examples/offer.rs:35:31)
//! finalized: third
//! 0 leaks, 1 violation, 0 replaced fds, 0 failed finalizers, 0 still open
//! ```

use std::error::Error;
use std::sync::mpsc::channel;

use echown::ownership::{Offer, Owned, Registry, Report};
use echown::pool::Pool;

fn main() -> Result<(), Box<dyn Error>> {
    let show = |report: &Report| println!("{}", report.to_string().lines().next().unwrap_or(""));
    let registry = Registry::builder().sink(show).build();
    let pool = Pool::builder().registry(&registry).build();
    let (post, letters) = channel::<Offer<Owned<String>>>();

    let worker = pool.spawn_named("worker", [], move || {
        for offer in letters.iter().take(2) {
            let letter = offer.claim().expect("it was not taken back");
            println!("the worker reads: {}", letter.disown().expect("it is the worker's"));
        }
        drop(letters.recv());
    })?;

    for text in ["first", "second", "third"] {
        let letter = registry.own_with(text.to_owned(), |text| {
            println!("finalized: {text}");
            Ok(())
        })?;
        post.send(letter.offer()?).expect("the worker takes three");
    }
    worker.join()?;
    println!("{}", registry.finish());
    Ok(())
}
