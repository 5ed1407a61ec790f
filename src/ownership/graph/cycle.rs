//! The search for the reference cycle that keeps a resource alive, and for the reference to cut.
//!
//! Pure functions over the recorded graph.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet, VecDeque};

use echown_report::graph::{Cycle, EdgeData, NodeLabel, Strength};
use petgraph::Direction;
use petgraph::algo::{astar, tarjan_scc};
use petgraph::graph::DiGraph;
use petgraph::stable_graph::{EdgeIndex, NodeIndex};
use petgraph::visit::{EdgeFiltered, EdgeRef, IntoEdgeReferences};

use super::{RecordedGraph, Reference};

/// The nodes that keep a resource alive, nearest first. The first one is the resource's own.
pub(super) type Holders = DiGraph<NodeLabel, Reference>;

/// Copies the part of the graph that keeps `resource` alive, directly or indirectly.
pub(super) fn holders_of(recorded: &RecordedGraph, resource: NodeIndex) -> Holders {
    let mut holders = Holders::new();
    let first = holders.add_node(recorded[resource].label.clone());
    let mut copies = HashMap::from([(resource, first)]);
    let mut to_visit = VecDeque::from([resource]);
    while let Some(held) = to_visit.pop_front() {
        for reference in recorded.edges_directed(held, Direction::Incoming) {
            if reference.weight().strength == Strength::Weak {
                continue;
            }
            let holder = reference.source();
            let copy = *copies.entry(holder).or_insert_with(|| {
                to_visit.push_back(holder);
                holders.add_node(recorded[holder].label.clone())
            });
            // Each reference to a holder is visited once, from that holder.
            holders.add_edge(copy, copies[&held], *reference.weight());
        }
    }
    holders
}

/// The shortest cycle through the nearest holder that is part of one.
pub(super) fn nearest(holders: &Holders) -> Option<Cycle> {
    let cyclic: HashSet<NodeIndex> = tarjan_scc(holders)
        .into_iter()
        .filter(|component| {
            component.len() > 1 || holders.contains_edge(component[0], component[0])
        })
        .flatten()
        .collect();
    let mut nodes = holders.node_indices();
    let resource = nodes.next()?;
    let start = holders.node_indices().find(|node| cyclic.contains(node))?;
    let round = holders
        .neighbors(start)
        .filter_map(|next| {
            let mut way = shortest(holders, next, start)?;
            way.insert(0, start);
            Some(way)
        })
        .min_by_key(Vec::len)?;
    let cut = round
        .windows(2)
        .filter_map(|step| Some((alternatives(holders, step), latest(holders, step)?)))
        .min_by_key(|(alternatives, reference)| (*alternatives, Reverse(reference.weight().age)))?
        .1;
    Some(Cycle {
        edges: along(holders, &round),
        path: along(holders, &shortest(holders, start, resource)?),
        cut: data(holders, cut),
    })
}

/// The nodes on the shortest path from one to another, both included.
fn shortest(holders: &Holders, from: NodeIndex, to: NodeIndex) -> Option<Vec<NodeIndex>> {
    let found = astar(holders, from, |node| node == to, |_| 1_u32, |_| 0);
    found.map(|(_, nodes)| nodes)
}

type HolderEdge<'a> = petgraph::graph::EdgeReference<'a, Reference>;

/// The number of parallel references for one step.
fn alternatives(holders: &Holders, step: &[NodeIndex]) -> usize {
    holders.edges_connecting(step[0], step[1]).count()
}

/// The latest reference for one step.
fn latest<'a>(holders: &'a Holders, step: &[NodeIndex]) -> Option<HolderEdge<'a>> {
    holders.edges_connecting(step[0], step[1]).max_by_key(|reference| reference.weight().age)
}

/// The references along a path.
fn along(holders: &Holders, way: &[NodeIndex]) -> Vec<EdgeData> {
    let steps = way.windows(2).filter_map(|step| latest(holders, step));
    steps.map(|reference| data(holders, reference)).collect()
}

fn data(holders: &Holders, reference: HolderEdge<'_>) -> EdgeData {
    let Reference { strength, site, .. } = *reference.weight();
    let (from, to) = (reference.source(), reference.target());
    EdgeData {
        from: holders[from].clone(),
        to: holders[to].clone(),
        strength,
        is_in_cycle: is_part(holders, from, to),
        site,
    }
}

/// Whether a reference from `from` to `to` is part of a cycle.
fn is_part(holders: &Holders, from: NodeIndex, to: NodeIndex) -> bool {
    shortest(holders, to, from).is_some()
}

/// The strong references that are part of a cycle.
pub(super) fn cyclic_edges(recorded: &RecordedGraph) -> HashSet<EdgeIndex> {
    let strong = EdgeFiltered::from_fn(recorded, |reference| {
        reference.weight().strength == Strength::Strong
    });
    let mut components = HashMap::new();
    for (number, component) in tarjan_scc(&strong).into_iter().enumerate() {
        components.extend(component.into_iter().map(|node| (node, number)));
    }
    strong
        .edge_references()
        // Inside a component every reference has a path back. In a component of one node, only a reference
        // to itself has.
        .filter(|reference| components[&reference.source()] == components[&reference.target()])
        .map(|reference| reference.id())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::Vertex;
    use super::*;
    use echown_report::Site;

    /// Node 0 is the resource; edges in the order in which they were made.
    fn recorded(nodes: usize, edges: &[(usize, usize)]) -> RecordedGraph {
        let mut recorded = RecordedGraph::new();
        let indices: Vec<NodeIndex> = (0..nodes)
            .map(|id| {
                let label = NodeLabel { id: id as u64, name: id.to_string().into() };
                recorded.add_node(Vertex::new(label, None))
            })
            .collect();
        for (age, &(from, to)) in edges.iter().enumerate() {
            let reference =
                Reference { strength: Strength::Strong, site: Site::here(), age: age as u64 };
            recorded.add_edge(indices[from], indices[to], reference);
        }
        recorded
    }

    /// The cycle, the path from it, and the cut, as text.
    fn found(nodes: usize, edges: &[(usize, usize)]) -> Option<[String; 3]> {
        let recorded = recorded(nodes, edges);
        let cycle = nearest(&holders_of(&recorded, NodeIndex::new(0)))?;
        let text = |edges: &[EdgeData]| {
            edges.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        Some([text(&cycle.edges), text(&cycle.path), cycle.cut.to_string()])
    }

    fn expected(cycle: &str, path: &str, cut: &str) -> Option<[String; 3]> {
        Some([cycle.into(), path.into(), cut.into()])
    }

    #[test]
    fn holders_without_a_cycle_and_cycles_that_hold_nothing_are_no_cycle_behind_it() {
        assert_eq!(found(1, &[]), None);
        assert_eq!(found(3, &[(1, 0), (2, 1), (2, 0)]), None);
        // 2 and 3 hold each other, and 1 holds 2: neither of them holds 0.
        assert_eq!(found(4, &[(1, 0), (1, 2), (2, 3), (3, 2)]), None);
    }

    #[test]
    fn the_latest_reference_of_the_cycle_is_the_one_to_cut() {
        let edges = [(1, 0), (1, 2), (2, 1)];
        assert_eq!(found(3, &edges), expected("1 -> 2, 2 -> 1", "1 -> 0", "2 -> 1"));
        let edges = [(2, 1), (1, 2), (1, 0)];
        assert_eq!(found(3, &edges), expected("1 -> 2, 2 -> 1", "1 -> 0", "1 -> 2"));
    }

    #[test]
    fn of_several_cycles_the_nearest_is_named_and_of_these_the_shortest() {
        // 1 holds 0; 1 is in a long cycle (1 4 5) and a short one (1 2); 3 and 6 are further away.
        let edges = [(1, 0), (1, 4), (4, 5), (5, 1), (2, 1), (1, 2), (3, 1), (3, 6), (6, 3)];
        assert_eq!(found(7, &edges), expected("1 -> 2, 2 -> 1", "1 -> 0", "1 -> 2"));
    }

    #[test]
    fn a_cycle_far_away_is_found_with_the_way_from_it() {
        let edges = [(1, 0), (2, 1), (3, 2), (2, 3)];
        assert_eq!(found(4, &edges), expected("2 -> 3, 3 -> 2", "2 -> 1, 1 -> 0", "2 -> 3"));
    }

    #[test]
    fn the_resource_itself_may_be_part_of_it_and_something_may_hold_itself() {
        assert_eq!(found(2, &[(1, 0), (0, 1)]), expected("0 -> 1, 1 -> 0", "", "0 -> 1"));
        assert_eq!(found(2, &[(1, 1), (1, 0)]), expected("1 -> 1", "1 -> 0", "1 -> 1"));
    }

    #[test]
    fn a_reference_that_has_a_double_is_not_the_one_to_cut() {
        let edges = [(1, 0), (1, 2), (2, 1), (2, 1)];
        assert_eq!(found(3, &edges), expected("1 -> 2, 2 -> 1", "1 -> 0", "1 -> 2"));
    }

    #[test]
    fn weak_references_close_no_cycle() {
        let mut recorded = recorded(3, &[(1, 0), (1, 2)]);
        let weak = Reference { strength: Strength::Weak, site: Site::here(), age: 9 };
        recorded.add_edge(NodeIndex::new(2), NodeIndex::new(1), weak);
        assert!(nearest(&holders_of(&recorded, NodeIndex::new(0))).is_none());
        assert!(cyclic_edges(&recorded).is_empty());
    }

    #[test]
    fn the_edges_of_all_cycles_are_distinguished_from_the_others() {
        let recorded = recorded(5, &[(0, 1), (1, 2), (2, 1), (2, 3), (3, 3), (4, 0)]);
        let mut cyclic: Vec<usize> =
            cyclic_edges(&recorded).into_iter().map(EdgeIndex::index).collect();
        cyclic.sort_unstable();
        assert_eq!(cyclic, [1, 2, 4]);
    }
}
