//! The graph of recorded references: which values keep which others alive, and the line that made each
//! reference.
//!
//! The failure story. A connection holds the receiver of its messages, the receiver holds the sender
//! with which it replies, and the sender holds the connection. Each is an `Arc`, and each reference is
//! correct by itself, but the cycle is never freed: the descriptor inside stays open. The leak report
//! names the acquiring task and the line, but not what keeps the resource alive, because a program
//! cannot list the holders of an `Arc`'s clones.
//!
//! So a program that shares values records the holders. A [`Node`] is a holder or a held value: any
//! value with a name, or a resource. An [`Edge`] is one reference, from its creation until it is
//! dropped; keep it next to the pointer that it stands for. [`TrackedArc`] combines an `Arc` with its
//! node and its edges: each clone names its holder, so no reference is missed.
//!
//! When a task leaks a resource, the report shows what keeps it alive at that moment. If that is a
//! cycle, it names every reference of the cycle with its line, and the one to cut: the latest, which
//! closed the cycle.
//!
//! # Limits
//!
//! - Only recorded references count: a leak without a cycle in its report may have one.
//! - One cycle is named, the shortest of those nearest to the resource. There may be others.
//! - A graph belongs to a registry. A reference from a node of one registry to a node of another is
//!   recorded in neither. At [`Level::Off`](super::Level::Off) nothing is recorded.
//!
//! # Examples
//! ```
//! use std::sync::OnceLock;
//!
//! use echown::ownership::graph::{TrackedArc, Node};
//! use echown::ownership::Registry;
//!
//! struct Parent(OnceLock<TrackedArc<Child>>);
//! struct Child(#[allow(dead_code)] TrackedArc<Parent>);
//!
//! let parent = TrackedArc::new(Node::new("Parent"), Parent(OnceLock::new()));
//! let node = Node::new("Child");
//! let child = TrackedArc::new(node.clone(), Child(parent.clone_for(&node)));
//! let _ = parent.0.set(child.clone_for(parent.node()));
//! assert_eq!((parent.count(), child.count()), (2, 2));
//!
//! let graph = Registry::global().graph();
//! assert!(graph.edges.iter().all(|edge| edge.is_in_cycle));
//! assert_eq!(graph.edges[0].to_string(), "Child -> Parent");
//! ```

mod cycle;
mod recording;

use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use echown_report::{ResourceId, SCHEMA_VERSION, Site};
use petgraph::Direction;
use petgraph::stable_graph::{EdgeIndex, NodeIndex, StableDiGraph};
use petgraph::visit::{EdgeRef, IntoEdgeReferences};

use crate::sys::fork;

pub use echown_report::graph::{Cycle, EdgeData, Graph, NodeData, NodeLabel, Strength};

/// A holder or a held value. It is in the graph while this node, a clone of it, or an edge from or to it
/// exists.
#[derive(Clone)]
pub struct Node(Arc<NodeInner>);

struct NodeInner {
    label: NodeLabel,
    /// `None` at level `off`.
    place: Option<(Arc<ReferenceGraph>, NodeIndex)>,
}

impl Node {
    /// A node that is in no graph.
    fn unrecorded(name: Arc<str>) -> Node {
        Node(Arc::new(NodeInner { label: NodeLabel { id: 0, name }, place: None }))
    }

    /// Its id and name.
    #[must_use]
    pub fn label(&self) -> NodeLabel {
        self.0.label.clone()
    }

    /// Records that this node keeps another one alive. See [`edge`].
    #[track_caller]
    pub fn strong_edge(&self, other: &Node) -> Edge {
        Edge::make(Some(self), other, Strength::Strong, Site::here())
    }

    /// Records that this node refers to another one without keeping it alive. The edge is drawn, but it is
    /// neither counted nor part of a cycle.
    #[track_caller]
    pub fn weak_edge(&self, other: &Node) -> Edge {
        Edge::make(Some(self), other, Strength::Weak, Site::here())
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({:?})", self.0.label)
    }
}

impl Drop for NodeInner {
    fn drop(&mut self) {
        if fork::in_forked_child() {
            // A thread of the parent process may hold the graph's lock.
            return;
        }
        if let Some((references, index)) = &self.place {
            references.remove_node(*index);
        }
    }
}

/// Records that `from` keeps `to` alive, until the returned edge is dropped. Keep it next to the pointer
/// that it stands for.
///
/// # Examples
/// ```
/// use echown::ownership::graph::{self, Node};
/// use echown::ownership::{Registry, own};
///
/// let words = own(vec!["ours"])?;
/// let cache = Node::new("Cache");
/// let reference = graph::edge(&cache, &Node::of(&words.resource()));
/// assert_eq!(Registry::global().graph().edges.len(), 1);
/// drop(reference);
/// assert_eq!(Registry::global().graph().edges.len(), 0);
/// # Ok::<(), echown::ownership::Error>(())
/// ```
#[track_caller]
pub fn edge(from: &Node, to: &Node) -> Edge {
    from.strong_edge(to)
}

/// One reference, recorded until this is dropped.
#[must_use = "the reference is recorded until this is dropped: keep it next to the pointer"]
pub struct Edge {
    // Keeps both nodes in the graph: petgraph removes an edge with either of its nodes.
    from: Option<Node>,
    to: Node,
    strength: Strength,
    /// `None`: not recorded, or only counted because the holder has no name.
    index: Option<EdgeIndex>,
}

impl Edge {
    fn make(from: Option<&Node>, to: &Node, strength: Strength, site: Site) -> Edge {
        let index = match (from, &to.0.place) {
            _ if fork::in_forked_child() => None,
            (Some(from), Some((references, to))) => from
                .0
                .place
                .as_ref()
                .filter(|(theirs, _)| Arc::ptr_eq(theirs, references))
                .map(|(_, from)| references.connect(*from, *to, strength, site)),
            (None, Some((references, to))) => {
                references.count_anonymous(*to, 1);
                None
            }
            (_, None) => None,
        };
        Edge { from: from.cloned(), to: to.clone(), strength, index }
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        if fork::in_forked_child() {
            return;
        }
        let Some((references, to)) = &self.to.0.place else { return };
        match (self.index, &self.from) {
            (Some(index), _) => references.disconnect(index),
            (None, None) => references.count_anonymous(*to, -1),
            (None, Some(_)) => {}
        }
    }
}

impl fmt::Debug for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = self.from.as_ref().map(|from| &from.0.label);
        write!(f, "Edge({from:?} -> {:?}, {:?})", self.to.0.label, self.strength)
    }
}

/// An `Arc` whose references are all recorded in the graph.
///
/// The count falls before the value's destructor runs: a graph that is drawn inside the destructor shows
/// the node with a count of zero, and everything that the value still holds.
pub struct TrackedArc<T> {
    // In this order: the edge is removed before the value is dropped.
    edge: Edge,
    shared: Arc<TrackedInner<T>>,
}

struct TrackedInner<T> {
    // In this order, too: the value and its edges are dropped while its node exists.
    value: T,
    node: Node,
}

impl<T> TrackedArc<T> {
    /// Shares a value that `node` stands for. This first reference has no named holder, like a local
    /// variable.
    #[must_use]
    #[track_caller]
    pub fn new(node: Node, value: T) -> TrackedArc<T> {
        let edge = Edge::make(None, &node, Strength::Strong, Site::here());
        TrackedArc { edge, shared: Arc::new(TrackedInner { value, node }) }
    }

    /// Clones the reference for `holder`.
    #[must_use]
    #[track_caller]
    pub fn clone_for(&self, holder: &Node) -> TrackedArc<T> {
        let edge = Edge::make(Some(holder), &self.shared.node, Strength::Strong, Site::here());
        TrackedArc { edge, shared: Arc::clone(&self.shared) }
    }

    /// The node that stands for the value.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.shared.node
    }

    /// The number of references.
    #[must_use]
    pub fn count(&self) -> usize {
        Arc::strong_count(&self.shared)
    }
}

impl<T> Deref for TrackedArc<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.shared.value
    }
}

/// Clones the reference without a named holder.
impl<T> Clone for TrackedArc<T> {
    #[track_caller]
    fn clone(&self) -> TrackedArc<T> {
        let edge = Edge::make(None, &self.shared.node, Strength::Strong, Site::here());
        TrackedArc { edge, shared: Arc::clone(&self.shared) }
    }
}

impl<T> fmt::Debug for TrackedArc<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrackedArc({:?})", self.edge)
    }
}

/// The recorded references of one registry. Under its lock no other lock is taken and no user code runs.
#[derive(Default)]
pub(crate) struct ReferenceGraph(Mutex<GraphState>);

#[derive(Default)]
struct GraphState {
    graph: RecordedGraph,
    resources: HashMap<ResourceId, NodeIndex>,
    /// The counter for ids of nodes and ages of edges, because petgraph reuses its own indices.
    made: u64,
}

type RecordedGraph = StableDiGraph<Vertex, Reference>;

#[derive(Clone)]
struct Vertex {
    label: NodeLabel,
    resource: Option<ResourceId>,
    /// The node itself, for a second [`Node::of`] the same resource.
    node: Weak<NodeInner>,
    /// The number of references without a named holder.
    anonymous: u64,
    /// Whether there ever was a strong reference to it.
    was_strong: bool,
}

impl Vertex {
    fn new(label: NodeLabel, resource: Option<ResourceId>) -> Vertex {
        Vertex { label, resource, node: Weak::new(), anonymous: 0, was_strong: false }
    }
}

#[derive(Clone, Copy)]
struct Reference {
    strength: Strength,
    site: Site,
    /// Grows with every edge.
    age: u64,
}

impl ReferenceGraph {
    /// Adds a node. For a resource that already has one, returns that.
    fn add(self: Arc<ReferenceGraph>, name: Arc<str>, resource: Option<ResourceId>) -> Node {
        let mut state = self.state();
        let known = resource.and_then(|id| state.resources.get(&id).copied());
        if let Some(inner) = known.and_then(|index| state.graph[index].node.upgrade()) {
            // Release the lock first: if all other references to the node were dropped meanwhile, it is
            // dropped here, and its drop takes the lock.
            drop(state);
            return Node(inner);
        }
        state.made += 1;
        let label = NodeLabel { id: state.made, name };
        let index = state.graph.add_node(Vertex::new(label.clone(), resource));
        let inner = Arc::new(NodeInner { label, place: Some((Arc::clone(&self), index)) });
        state.graph[index].node = Arc::downgrade(&inner);
        if let Some(id) = resource {
            state.resources.insert(id, index);
        }
        Node(inner)
    }

    fn remove_node(&self, index: NodeIndex) {
        let mut state = self.state();
        let Some(vertex) = state.graph.remove_node(index) else { return };
        // The resource may have got another node meanwhile.
        if let Some(id) = vertex.resource
            && state.resources.get(&id) == Some(&index)
        {
            state.resources.remove(&id);
        }
    }

    fn connect(&self, from: NodeIndex, to: NodeIndex, strength: Strength, site: Site) -> EdgeIndex {
        let mut state = self.state();
        state.made += 1;
        let age = state.made;
        if strength == Strength::Strong {
            state.graph[to].was_strong = true;
        }
        state.graph.add_edge(from, to, Reference { strength, site, age })
    }

    fn disconnect(&self, index: EdgeIndex) {
        self.state().graph.remove_edge(index);
    }

    fn count_anonymous(&self, to: NodeIndex, more: i64) {
        let mut state = self.state();
        let vertex = &mut state.graph[to];
        vertex.was_strong = true;
        vertex.anonymous = vertex.anonymous.saturating_add_signed(more);
    }

    /// The cycle that keeps a resource alive, if there is one.
    pub(crate) fn cycle_behind(&self, resource: ResourceId) -> Option<Cycle> {
        let holders = {
            let state = self.state();
            let index = *state.resources.get(&resource)?;
            cycle::holders_of(&state.graph, index)
        };
        // The search uses a copy, without the lock.
        cycle::nearest(&holders)
    }

    /// The whole graph at one moment, as plain data.
    pub(crate) fn snapshot(&self) -> Graph {
        let graph = self.state().graph.clone();
        let cyclic = cycle::cyclic_edges(&graph);
        let strong_in = |index| {
            let incoming = graph.edges_directed(index, Direction::Incoming);
            incoming.filter(|edge| edge.weight().strength == Strength::Strong).count() as u64
        };
        let mut nodes: Vec<NodeData> = graph
            .node_indices()
            .map(|index| {
                let vertex = &graph[index];
                NodeData {
                    node: vertex.label.clone(),
                    count: vertex.was_strong.then(|| strong_in(index) + vertex.anonymous),
                    resource: vertex.resource,
                }
            })
            .collect();
        nodes.sort_by_key(|data| data.node.id);
        let mut edges: Vec<_> = graph.edge_references().collect();
        edges.sort_by_key(|edge| edge.weight().age);
        let edges = edges
            .into_iter()
            .map(|edge| EdgeData {
                from: graph[edge.source()].label.clone(),
                to: graph[edge.target()].label.clone(),
                strength: edge.weight().strength,
                is_in_cycle: cyclic.contains(&edge.id()),
                site: edge.weight().site,
            })
            .collect();
        Graph { schema_version: SCHEMA_VERSION, nodes, edges }
    }

    fn state(&self) -> MutexGuard<'_, GraphState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
