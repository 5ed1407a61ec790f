//! Recorded references: the cycle in a leak report, and the reference graph.

use std::sync::{Mutex, OnceLock};

use common::{Fixture, leaked};
use echown::ownership::graph::{self, Edge, EdgeData, Graph, Node, Strength, TrackedArc};
use echown::ownership::{Level, Registry};
use echown::report::Code;
use echown::test;

mod common;

/// Edges as text, in the order in which they were made.
fn drawn(edges: &[EdgeData]) -> Vec<String> {
    edges.iter().map(ToString::to_string).collect()
}

/// Nodes with their counts: `Sender 0`, `Manager -`.
fn counts(graph: &Graph) -> Vec<String> {
    let nodes = graph.nodes.iter();
    nodes
        .map(|data| {
            let count = data.count.map_or("-".into(), |count| count.to_string());
            format!("{} {count}", data.node)
        })
        .collect()
}

/// Two values that hold each other; the first also holds a value of the caller.
struct Parent<T> {
    _treasure: T,
    _to_treasure: Edge,
    child: OnceLock<TrackedArc<Child<T>>>,
}

struct Child<T> {
    _parent: TrackedArc<Parent<T>>,
}

/// The lines on which the references of the cycle are made.
const LINE_OF_CHILD_TO_PARENT: u32 = line!() + 9;
const LINE_OF_PARENT_TO_CHILD: u32 = line!() + 9;

fn make_a_cycle<T>(treasure: T, to_it: &Node) {
    let node = Node::new("Parent");
    let to_treasure = graph::edge(&node, to_it);
    let parent = Parent { _treasure: treasure, _to_treasure: to_treasure, child: OnceLock::new() };
    let parent = TrackedArc::new(node, parent);
    let node = Node::new("Child");
    let child = TrackedArc::new(node.clone(), Child { _parent: parent.clone_for(&node) });
    let _ = parent.child.set(child.clone_for(parent.node()));
}

#[test]
fn a_leak_in_a_cycle_lists_its_references_with_lines_and_the_one_to_cut() {
    let fixture = Fixture::new();
    let outcome = fixture.root(|| {
        let job = || {
            let listener = fixture.listener();
            let node = Node::of(&listener.resource());
            make_a_cycle(listener, &node);
        };
        fixture.spawn("forgetful", [], job).join()
    });
    let ((), report) = leaked(outcome);
    let cycle = report.resources[0].kept_alive_by.as_ref().expect("the cycle is recorded");
    assert_eq!(drawn(&cycle.edges), ["Parent -> Child", "Child -> Parent"]);
    assert_eq!(cycle.edges[0].site.line(), LINE_OF_PARENT_TO_CHILD);
    assert_eq!(cycle.edges[1].site.line(), LINE_OF_CHILD_TO_PARENT);
    assert_eq!(cycle.cut.to_string(), "Parent -> Child", "the one that closed it");
    assert_eq!(cycle.cut.site.line(), LINE_OF_PARENT_TO_CHILD);
    let number = report.resources[0].number.unwrap();
    assert_eq!(drawn(&cycle.path), [format!("Parent -> fd {number} (tcp listener)")]);
    fixture.assert_all_closed();

    let text = report.to_string();
    let here = |line| format!("made at tests/graph.rs:{line}:");
    for expected in [
        "kept alive by a cycle of references:".to_owned(),
        format!("Child -> Parent, {}", here(LINE_OF_CHILD_TO_PARENT)),
        format!("cut the reference Parent -> Child, {}", here(LINE_OF_PARENT_TO_CHILD)),
    ] {
        assert!(text.contains(&expected), "no {expected:?} in {text}");
    }
    let verdict = fixture.registry.summary();
    assert_eq!((verdict.leaks, verdict.cycles, verdict.reported[&Code::Leak]), (1, 1, 1));
}

#[test]
fn a_leak_without_a_cycle_reports_no_cycle() {
    let fixture = Fixture::new();
    let outcome = fixture.root(|| {
        let job = || {
            let listener = fixture.listener();
            // The leaked resource is held, but not by a cycle; and a cycle exists that holds other
            // nodes.
            let holder = Node::new("Global");
            std::mem::forget(graph::edge(&holder, &Node::of(&listener.resource())));
            make_a_cycle((), &Node::new("nothing of importance"));
            std::mem::forget(listener);
        };
        fixture.spawn("forgetful", [], job).join()
    });
    let ((), report) = leaked(outcome);
    assert!(report.resources[0].kept_alive_by.is_none());
    assert!(!report.to_string().contains("cycle"));
    assert_eq!(fixture.registry.summary().cycles, 0);
}

#[test]
fn references_are_recorded_until_dropped_and_nodes_until_their_last_part() {
    let registry = Registry::new();
    let _entered = registry.enter();
    assert!(registry.graph().nodes.is_empty());
    let (one, other) = (Node::new("one"), Node::new("other"));
    let reference = graph::edge(&one, &other);
    drop((one, other));
    assert_eq!(counts(&registry.graph()), ["one -", "other 1"], "the edge keeps its ends");
    assert_eq!(drawn(&registry.graph().edges), ["one -> other"]);
    drop(reference);
    let graph = registry.graph();
    assert!(graph.nodes.is_empty() && graph.edges.is_empty(), "{graph:?}");
}

#[test]
fn a_resource_has_one_node_while_it_exists() {
    let registry = Registry::new();
    let _entered = registry.enter();
    let words = registry.own(vec!["ours"]).unwrap();
    let resource = words.resource();
    let first = Node::of(&resource);
    assert_eq!(first.label(), Node::of(&resource).label());
    assert_eq!(registry.graph().nodes[0].resource, Some(words.id()));
    let before = first.label();
    drop(first);
    assert_ne!(Node::of(&resource).label(), before, "and a new one after that");
    assert!(registry.graph().nodes.is_empty());
    words.release().unwrap();
}

#[test]
fn a_shared_value_counts_all_references_and_draws_those_with_a_holder() {
    let registry = Registry::new();
    let _entered = registry.enter();
    let manager = Node::new("Manager");
    let first = TrackedArc::new(Node::new("Connection"), 7);
    assert_eq!(counts(&registry.graph()), ["Manager -", "Connection 1"]);
    let second = first.clone_for(&manager);
    let third = second.clone();
    assert_eq!((*third, third.count()), (7, 3));
    assert_eq!(counts(&registry.graph()), ["Manager -", "Connection 3"]);
    assert_eq!(drawn(&registry.graph().edges), ["Manager -> Connection"]);
    drop((first, third));
    assert_eq!(counts(&registry.graph()), ["Manager -", "Connection 1"]);
    drop(second);
    assert_eq!(counts(&registry.graph()), ["Manager -"]);
}

/// Reads the graph in its `drop`, as the sender of a connection does when it flushes.
struct Dying {
    registry: Registry,
    _holds: TrackedArc<()>,
    last_look: &'static Mutex<Option<Graph>>,
}

impl Drop for Dying {
    fn drop(&mut self) {
        *self.last_look.lock().unwrap() = Some(self.registry.graph());
    }
}

#[test]
fn a_node_with_a_zero_count_is_drawn_with_the_nodes_it_still_holds() {
    static LAST_LOOK: Mutex<Option<Graph>> = Mutex::new(None);
    let registry = Registry::new();
    let _entered = registry.enter();
    let node = Node::new("Sender");
    let connection = TrackedArc::new(Node::new("Connection"), ());
    let dying = Dying {
        registry: registry.clone(),
        _holds: connection.clone_for(&node),
        last_look: &LAST_LOOK,
    };
    drop(connection);
    drop(TrackedArc::new(node, dying));
    let last_look = LAST_LOOK.lock().unwrap().take().expect("it was dropped");
    assert_eq!(counts(&last_look), ["Sender 0", "Connection 1"]);
    assert_eq!(drawn(&last_look.edges), ["Sender -> Connection"]);
    assert!(last_look.to_mermaid().contains("(\"Sender ref=0\")"), "{}", last_look.to_mermaid());
    assert!(registry.graph().nodes.is_empty());
}

#[test]
fn a_weak_reference_is_drawn_but_not_counted_and_in_no_cycle() {
    let registry = Registry::new();
    let _entered = registry.enter();
    let (parent, child) = (Node::new("Parent"), Node::new("Child"));
    let _down = parent.strong_edge(&child);
    let _up = child.weak_edge(&parent);
    let graph = registry.graph();
    assert_eq!(counts(&graph), ["Parent -", "Child 1"]);
    assert_eq!(graph.edges[1].strength, Strength::Weak);
    assert!(graph.edges.iter().all(|edge| !edge.is_in_cycle));
}

#[test]
fn mermaid_marks_cycles_dots_weak_references_and_labels_every_edge() {
    let registry = Registry::new();
    let _entered = registry.enter();
    let node = |name: &str| Node::new(name);
    let (manager, parent, child) = (node("Manager"), node("Parent"), node("Child \"x\""));
    let first = line!() + 1;
    let _a = manager.strong_edge(&parent);
    let _b = parent.strong_edge(&child);
    let _c = child.strong_edge(&parent);
    let _d = child.weak_edge(&manager);
    let site = |line: u32, column: u32| format!("|\"tests/graph.rs:{}:{column}\"|", first + line);
    let expected = [
        "flowchart TD".to_owned(),
        "    n1(\"Manager\")".to_owned(),
        "    n2(\"Parent ref=2\")".to_owned(),
        "    n3(\"Child #quot;x#quot; ref=1\")".to_owned(),
        format!("    n1 -->{} n2", site(0, 22)),
        format!("    n2 ==>{} n3", site(1, 21)),
        format!("    n3 ==>{} n2", site(2, 20)),
        format!("    n3 -.->{} n1", site(3, 20)),
        "    linkStyle 1,2 color:red,stroke:red;".to_owned(),
    ];
    let drawn = registry.graph().to_mermaid();
    assert_eq!(drawn.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn the_neighbourhood_of_a_node_has_its_holders_and_held_nodes() {
    let registry = Registry::new();
    let _entered = registry.enter();
    let node = |name: &str| Node::new(name);
    let (manager, one, other) = (node("Manager"), node("one"), node("other"));
    let (leaf, holder) = (node("leaf"), node("holder of the leaf"));
    let words = registry.own(vec!["ours"]).unwrap();
    let _edges = [
        manager.strong_edge(&one),
        manager.strong_edge(&other),
        one.strong_edge(&leaf),
        holder.strong_edge(&leaf),
        one.strong_edge(&Node::of(&words.resource())),
        leaf.weak_edge(&one),
    ];
    let part = registry.graph().around(&one.label());
    let resource = format!("resource {} (Vec<&str>) 1", words.id());
    let all = ["Manager -", "one 1", "leaf 2", "holder of the leaf -", &resource];
    // The holder of the leaf refers to the leaf through a weak reference.
    assert_eq!(counts(&part), all);
    let part = part.without_resources();
    assert_eq!(counts(&part), all[..4]);
    let expected = ["Manager -> one", "one -> leaf", "holder of the leaf -> leaf", "leaf -> one"];
    assert_eq!(drawn(&part.edges), expected);
    assert_eq!(counts(&registry.graph().around(&other.label())), ["Manager -", "other 1"]);
    words.release().unwrap();
}

#[test]
fn at_level_off_nothing_is_recorded() {
    let registry = Registry::builder().level(Level::Off).build();
    let _entered = registry.enter();
    let words = registry.own(vec!["ours"]).unwrap();
    let node = Node::new("node");
    let kept = TrackedArc::new(node.clone(), ());
    let _held = kept.clone_for(&Node::of(&words.resource()));
    let _reference = node.strong_edge(&Node::of(&words.resource()));
    assert_eq!(kept.count(), 2, "the count of the Arc does not change");
    let graph = registry.graph();
    assert!(graph.nodes.is_empty() && graph.edges.is_empty(), "{graph:?}");
    words.release().unwrap();
}

#[test]
fn a_reference_between_two_registries_is_in_neither_graph() {
    let (here, there) = (Registry::new(), Registry::new());
    let node = |registry: &Registry, name: &str| {
        let _entered = registry.enter();
        Node::new(name)
    };
    let (one, other) = (node(&here, "one"), node(&there, "other"));
    let reference = graph::edge(&one, &other);
    assert!(here.graph().edges.is_empty() && there.graph().edges.is_empty());
    assert_eq!(counts(&there.graph()), ["other -"]);
    drop(reference);
    assert_eq!(counts(&there.graph()), ["other -"]);
}

#[test]
fn references_made_and_dropped_on_many_threads_leave_nothing() {
    let registry = Registry::new();
    let _entered = registry.enter();
    let shared = TrackedArc::new(Node::new("shared"), ());
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                let _entered = registry.enter();
                let resource = registry.own(()).unwrap();
                for _ in 0..500 {
                    let node = Node::of(&resource.resource());
                    let holder = Node::new("holder");
                    let _both = (holder.strong_edge(&node), shared.clone_for(&holder));
                    assert!(registry.graph().edges.len() <= 8);
                }
                resource.release().unwrap();
            });
        }
    });
    assert_eq!(shared.count(), 1);
    assert_eq!(counts(&registry.graph()), ["shared 1"]);
}
