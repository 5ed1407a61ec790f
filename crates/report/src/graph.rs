//! The graph of recorded references as plain data, a cycle as text, and the graph as Mermaid.

use std::collections::HashSet;
use std::fmt::{self, Write};
use std::sync::Arc;

use super::ids::ResourceId;
use super::site::Site;

/// A node's id and name.
#[derive(Clone, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
pub struct NodeLabel {
    /// Never reused within a graph. Several nodes can have the same name.
    pub id: u64,
    /// The name that the program gave it.
    pub name: Arc<str>,
}

impl fmt::Display for NodeLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for NodeLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (node {})", self.name, self.id)
    }
}

/// Whether a reference keeps its target alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[cfg_attr(feature = "json", serde(rename_all = "snake_case"))]
pub enum Strength {
    /// It keeps it alive.
    Strong,
    /// It does not.
    Weak,
}

/// All references of a registry at one moment, as plain data.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
pub struct Graph {
    /// See [`SCHEMA_VERSION`](super::SCHEMA_VERSION).
    pub schema_version: u32,
    /// The nodes, in order of creation.
    pub nodes: Vec<NodeData>,
    /// The references, in order of creation.
    pub edges: Vec<EdgeData>,
}

/// The description of one node.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
pub struct NodeData {
    /// Id and name.
    pub node: NodeLabel,
    /// The number of strong references to it, including those without a named holder. `None`: there never
    /// was one, so the graph does not determine how long it lives.
    pub count: Option<u64>,
    /// The resource that it stands for.
    pub resource: Option<ResourceId>,
}

/// The description of one reference.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
pub struct EdgeData {
    /// The holder.
    pub from: NodeLabel,
    /// The node that it refers to.
    pub to: NodeLabel,
    /// Whether it keeps that node alive.
    pub strength: Strength,
    /// Whether it is part of a cycle of strong references.
    pub is_in_cycle: bool,
    /// Where the reference was made.
    pub site: Site,
}

/// `from -> to`.
impl fmt::Display for EdgeData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.from, self.to)
    }
}

/// References that keep each other alive, and with them a resource.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
pub struct Cycle {
    /// The references of the cycle in order: the `to` of each is the `from` of the next, and the `to` of
    /// the last is the `from` of the first.
    pub edges: Vec<EdgeData>,
    /// The path from the cycle to the resource, in order. Empty if the resource is part of the cycle.
    pub path: Vec<EdgeData>,
    /// The reference to cut: the latest of the cycle, unless a parallel reference would still close the
    /// cycle.
    pub cut: EdgeData,
}

impl Graph {
    /// A graph without nodes.
    #[must_use]
    pub fn empty() -> Graph {
        Graph { schema_version: super::SCHEMA_VERSION, nodes: Vec::new(), edges: Vec::new() }
    }

    /// The part of the graph around one node: its direct and indirect holders, everything that it refers
    /// to directly or indirectly, and the references among these nodes. Counts are unchanged.
    #[must_use]
    pub fn around(&self, node: &NodeLabel) -> Graph {
        let holders = self.reached(node, |edge| (edge.to.id, edge.from.id));
        let held = self.reached(node, |edge| (edge.from.id, edge.to.id));
        self.part(|node| holders.contains(&node.node.id) || held.contains(&node.node.id))
    }

    /// The graph without the nodes that stand for resources, and without the references to them.
    #[must_use]
    pub fn without_resources(&self) -> Graph {
        self.part(|node| node.resource.is_none())
    }

    /// The nodes that can be reached by `steps`, including the first one. A step goes from the first id to
    /// the second.
    fn reached(&self, node: &NodeLabel, step: impl Fn(&EdgeData) -> (u64, u64)) -> HashSet<u64> {
        let mut reached = HashSet::from([node.id]);
        let mut to_visit = vec![node.id];
        while let Some(here) = to_visit.pop() {
            for (from, to) in self.edges.iter().map(&step) {
                if from == here && reached.insert(to) {
                    to_visit.push(to);
                }
            }
        }
        reached
    }

    fn part(&self, wanted: impl Fn(&NodeData) -> bool) -> Graph {
        let nodes: Vec<NodeData> = self.nodes.iter().filter(|node| wanted(node)).cloned().collect();
        let ids: HashSet<u64> = nodes.iter().map(|node| node.node.id).collect();
        let is_inside = |edge: &&EdgeData| ids.contains(&edge.from.id) && ids.contains(&edge.to.id);
        let edges = self.edges.iter().filter(is_inside).cloned().collect();
        Graph { schema_version: self.schema_version, nodes, edges }
    }
}

/// One line per reference, and at the end the one to cut.
impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("kept alive by a cycle of references:")?;
        for reference in &self.edges {
            write!(f, "\n  {reference}, made at {}", reference.site)?;
        }
        if !self.path.is_empty() {
            f.write_str("\nwhich leads to the resource:")?;
        }
        for reference in &self.path {
            write!(f, "\n  {reference}, made at {}", reference.site)?;
        }
        write!(f, "\ncut the reference {}, made at {}", self.cut, self.cut.site)
    }
}

impl Graph {
    /// The graph as a Mermaid flowchart, for Markdown.
    ///
    /// Each node shows its current count. A node whose count has fallen to zero is drawn while it exists.
    /// Each reference has the line that made it as its label. References of a cycle are thick and red;
    /// weak ones are dotted.
    ///
    /// # Examples
    /// ```
    /// use echown::ownership::Registry;
    /// use echown::ownership::graph::{Node, TrackedArc};
    ///
    /// let registry = Registry::new();
    /// let _entered = registry.enter();
    /// let manager = Node::new("Manager");
    /// let connection = TrackedArc::new(Node::new("Connection"), ());
    /// let theirs = connection.clone_for(&manager);
    ///
    /// let drawn = registry.graph().to_mermaid();
    /// assert!(drawn.starts_with("flowchart TD\n    n1(\"Manager\")\n    n2(\"Connection ref=2\")\n"));
    /// assert!(drawn.contains("    n1 -->|"));
    /// ```
    #[must_use]
    pub fn to_mermaid(&self) -> String {
        let mut drawn = "flowchart TD\n".to_owned();
        for node in &self.nodes {
            write_line(&mut drawn, format_args!("n{}(\"{}\")", node.node.id, label(node)));
        }
        for edge in &self.edges {
            let EdgeData { from, to, site, .. } = edge;
            let arrow = match (edge.strength, edge.is_in_cycle) {
                (Strength::Weak, _) => "-.->",
                (_, true) => "==>",
                _ => "-->",
            };
            let site = escaped(&site.to_string());
            write_line(&mut drawn, format_args!("n{} {arrow}|\"{site}\"| n{}", from.id, to.id));
        }
        let red: Vec<String> = self
            .edges
            .iter()
            .enumerate()
            .filter(|(_, edge)| edge.is_in_cycle)
            .map(|(index, _)| index.to_string())
            .collect();
        if !red.is_empty() {
            write_line(
                &mut drawn,
                format_args!("linkStyle {} color:red,stroke:red;", red.join(",")),
            );
        }
        drawn
    }
}

fn label(node: &NodeData) -> String {
    let name = escaped(&node.node.name);
    match node.count {
        Some(count) => format!("{name} ref={count}"),
        None => name,
    }
}

/// Escapes text for a quoted Mermaid label, in which a few characters must be entities.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for sign in text.chars() {
        match sign {
            '"' => escaped.push_str("#quot;"),
            '#' => escaped.push_str("#35;"),
            '&' => escaped.push_str("#amp;"),
            '<' => escaped.push_str("#lt;"),
            '>' => escaped.push_str("#gt;"),
            '\n' | '\r' => escaped.push(' '),
            _ => escaped.push(sign),
        }
    }
    escaped
}

fn write_line(drawn: &mut String, line: fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(drawn, "    {line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_out_of_their_quotes() {
        assert_eq!(escaped("a\"b<c>#\n&"), "a#quot;b#lt;c#gt;#35; #amp;");
    }
}
