//! Which graph a node belongs to: that of a registry, or none at level `off`.

use std::sync::Arc;

use echown_fd::escape;
use echown_report::graph::Graph;

use super::{Node, ReferenceGraph};
use crate::ownership::policy::Level;
use crate::ownership::registry::Registry;
use crate::ownership::resource::Resource;
use crate::sys::fork;

impl Node {
    /// A node with this name in the graph of the [current registry](Registry::current).
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Node {
        let name = escape::name(name.into());
        match Registry::current().references() {
            Some(references) => references.add(name, None),
            None => Node::unrecorded(name),
        }
    }

    /// The node that stands for a resource: a value with an edge to it holds the resource's handle. Each
    /// call returns the same node.
    #[must_use]
    pub fn of(resource: &Resource) -> Node {
        let name = resource.name().into();
        match resource.registry().references() {
            Some(references) => references.add(name, Some(resource.id())),
            None => Node::unrecorded(name),
        }
    }
}

impl Registry {
    /// The recorded references at this moment; see [`graph`](super).
    #[must_use]
    pub fn graph(&self) -> Graph {
        match self.references_if_any() {
            Some(references) if !fork::in_forked_child() => references.snapshot(),
            _ => Graph::empty(),
        }
    }

    /// The graph to record references in; `None` at level `off`.
    fn references(&self) -> Option<Arc<ReferenceGraph>> {
        let is_recorded = self.level() != Level::Off && !fork::in_forked_child();
        is_recorded.then(|| self.make_references())
    }
}
