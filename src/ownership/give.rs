//! `Give`: handles that move to a child as one argument.
//!
//! A child that gets its handles as an argument owns exactly those: a list of resources next to a
//! closure can name one that the closure does not capture, or miss one that it does.

use super::offer::Offerable;
use super::resource::Resource;

/// Handles that are given to a child together: one handle, or a tuple, array, `Vec` or `Option` of them.
///
/// # Examples
/// A struct of handles implements it by its fields:
/// ```
/// use echown::ownership::{Give, Owned, Resource, own};
///
/// struct Session {
///     name: Owned<String>,
///     marks: Option<Owned<Vec<u32>>>,
/// }
///
/// impl Give for Session {
///     fn list(&self, resources: &mut Vec<Resource>) {
///         self.name.list(resources);
///         self.marks.list(resources);
///     }
/// }
///
/// let session = Session { name: own(String::from("a"))?, marks: Some(own(vec![1, 2])?) };
/// let child = echown::thread::spawn_with(session, |session| session.name.with(|name| name.len()))?;
/// assert_eq!(child.join_flat()?, 1);
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub trait Give {
    /// Adds the resources of these handles to the list.
    fn list(&self, resources: &mut Vec<Resource>);
}

impl<H: Offerable> Give for H {
    fn list(&self, resources: &mut Vec<Resource>) {
        resources.push(self.to_resource());
    }
}

impl<G: Give> Give for Option<G> {
    fn list(&self, resources: &mut Vec<Resource>) {
        self.iter().for_each(|one| one.list(resources));
    }
}

impl<G: Give> Give for Vec<G> {
    fn list(&self, resources: &mut Vec<Resource>) {
        self.iter().for_each(|one| one.list(resources));
    }
}

impl<G: Give, const N: usize> Give for [G; N] {
    fn list(&self, resources: &mut Vec<Resource>) {
        self.iter().for_each(|one| one.list(resources));
    }
}

macro_rules! tuples {
    ($($($part:ident)+;)+) => {$(
        impl<$($part: Give),+> Give for ($($part,)+) {
            fn list(&self, resources: &mut Vec<Resource>) {
                #[allow(non_snake_case)]
                let ($($part,)+) = self;
                $($part.list(resources);)+
            }
        }
    )+};
}
tuples! {
    A B;
    A B C;
    A B C D;
}

/// The resources of these handles, as a give list.
pub(crate) fn resources_of(handles: &impl Give) -> Vec<Resource> {
    let mut resources = Vec::with_capacity(1);
    handles.list(&mut resources);
    resources
}
