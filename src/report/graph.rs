//! Who keeps whom alive: a cycle in words, a graph as Mermaid.

use std::fmt::{self, Write};

use crate::ownership::graph::{Cycle, EdgeData, Graph, NodeData, Strength};

/// One line for each reference, and in the end the one to cut.
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
    /// The graph as a Mermaid flowchart, for wherever Markdown is read.
    ///
    /// Each node has its live count; one whose count has fallen to zero is still drawn while it is
    /// there. A reference is labelled with the line that made it. Those that are part of a cycle are
    /// thick and red; weak ones are dotted.
    ///
    /// # Examples
    /// ```
    /// use echown::ownership::Registry;
    /// use echown::ownership::graph::{TrackedArc, Node};
    ///
    /// let registry = Registry::new();
    /// let manager = Node::new_in(&registry, "Manager");
    /// let connection = TrackedArc::new(Node::new_in(&registry, "Connection"), ());
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

/// Within quotes Mermaid takes everything but a few signs, which it takes as entities.
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
