//! The page: one self-contained document with its styles and scripts, and the policy that allows only
//! them.
//!
//! The parts are the files in `page/`; nothing is built, and nothing is loaded from elsewhere. The
//! scripts share one scope, in the order of [`SCRIPTS`].
//!
//! | file in `page/` | what |
//! |---|---|
//! | `index.html`, `style.css` | the markup, with the ids for tests; light, dark, narrow |
//! | `feed.js` | events from the server, or a recording in the document; reconnects |
//! | `model.js` | tasks, resources with their steps, findings, gaps; forgets old steps |
//! | `lanes.js` | which resources share a lane; order and filter |
//! | `view.js` | the shown window and moment: zoom, pause, rewind, play |
//! | `draw.js`, `timeline.js`, `legend.js` | the canvas; pointer and keys on it; its signs |
//! | `panels.js`, `details.js` | tree, table, feed; one resource, task or report |
//! | `controls.js` | buttons, filter, scrubber, keys |
//! | `format.js` | elements, times, colours; what a peer chose as harmless text |
//! | `main.js` | frames, snapshots after a loss, counters for tests |

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

const SKELETON: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/style.css");

/// The scripts with their names; each uses the ones before it.
const SCRIPTS: [(&str, &str); 12] = [
    ("format.js", include_str!("page/format.js")),
    ("model.js", include_str!("page/model.js")),
    ("lanes.js", include_str!("page/lanes.js")),
    ("feed.js", include_str!("page/feed.js")),
    ("view.js", include_str!("page/view.js")),
    ("draw.js", include_str!("page/draw.js")),
    ("timeline.js", include_str!("page/timeline.js")),
    ("panels.js", include_str!("page/panels.js")),
    ("details.js", include_str!("page/details.js")),
    ("controls.js", include_str!("page/controls.js")),
    ("legend.js", include_str!("page/legend.js")),
    ("main.js", include_str!("page/main.js")),
];

/// The document that a running program serves.
pub(crate) fn document() -> &'static str {
    static DOCUMENT: LazyLock<String> = LazyLock::new(|| assemble(""));
    &DOCUMENT
}

/// What the document may load and run: its own styles and scripts, by their hashes, and the events and
/// snapshots of the server that it came from.
pub(crate) fn content_security_policy() -> &'static str {
    static POLICY: LazyLock<String> = LazyLock::new(|| {
        format!(
            "default-src 'none'; script-src '{}'; style-src '{}'; connect-src 'self'; img-src data:; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            hash(&script()),
            hash(STYLE)
        )
    });
    &POLICY
}

/// The document with a recording inside, whose lines are JSON: a page that needs no server.
pub(crate) fn with_recording(lines: &[String]) -> String {
    // In JSON this character occurs in strings only, and in this element it could begin an end tag.
    let lines = lines.join("\n").replace('<', "\\u003c");
    assemble(&format!("<script type=\"application/json\" id=\"recording\">{lines}</script>"))
}

fn assemble(recording: &str) -> String {
    SKELETON
        .replace("<!-- styles -->", &format!("<style>{STYLE}</style>"))
        .replace("<!-- recording -->", recording)
        .replace("<!-- scripts -->", &format!("<script>{}</script>", script()))
}

/// All scripts as one function, so that they leave no names in the window.
fn script() -> String {
    let mut all = String::from("\"use strict\";\n(() => {\n");
    for (_, text) in SCRIPTS {
        all.push_str(text);
    }
    all.push_str("})();\n");
    all
}

fn hash(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text between two marks that occur once.
    fn between<'a>(text: &'a str, open: &str, close: &str) -> &'a str {
        assert_eq!(text.matches(open).count(), 1, "{open}");
        let (_, rest) = text.split_once(open).unwrap();
        rest.split_once(close).unwrap().0
    }

    #[test]
    fn the_policy_has_the_hashes_of_what_the_document_contains() {
        let document = document();
        for (open, close, directive) in
            [("<style>", "</style>", "style-src"), ("<script>", "</script>", "script-src")]
        {
            let content = between(document, open, close);
            assert!(content.len() > 1000, "{open}");
            let expected = format!("{directive} '{}'", hash(content));
            assert!(content_security_policy().contains(&expected), "{expected}");
        }
        assert!(!content_security_policy().contains("unsafe"));
    }

    #[test]
    fn the_document_has_no_handlers_styles_or_links_in_its_markup() {
        let skeleton = SKELETON.split_once("<head>").unwrap().1;
        for forbidden in [" on", " style=", "javascript:", "http://", "https://", " src="] {
            let with_value = |at: usize| {
                let rest = &skeleton[at + forbidden.len()..];
                forbidden != " on"
                    || rest
                        .split(['=', ' ', '>'])
                        .next()
                        .is_some_and(|name| rest[name.len()..].starts_with('='))
            };
            let found = skeleton.match_indices(forbidden).find(|(at, _)| with_value(*at));
            // The icon is an SVG in a data URL, whose namespace is a name and not a link.
            let is_icon = found.is_some_and(|(at, _)| skeleton[..at].ends_with("xmlns='"));
            assert!(found.is_none() || is_icon, "{forbidden} in index.html");
        }
    }

    #[test]
    fn the_scripts_never_turn_text_into_markup_or_code() {
        let forbidden = [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "DOMParser",
            "createContextualFragment",
            "srcdoc",
            "setHTMLUnsafe",
            "javascript:",
        ];
        for (name, text) in SCRIPTS {
            for word in forbidden {
                assert!(!text.contains(word), "{name} uses {word}");
            }
            assert!(!text.contains("</script"), "{name} would end its element");
        }
        assert!(
            !STYLE.contains("</style") && !STYLE.contains("url(") && !STYLE.contains("@import")
        );
    }

    #[test]
    fn every_file_of_the_page_is_part_of_the_document_and_short() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/status/page");
        let mut scripts = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.lines().count() <= 600, "{} has more than 600 lines", path.display());
            scripts += usize::from(path.extension().is_some_and(|it| it == "js"));
        }
        assert_eq!(scripts, SCRIPTS.len());
    }

    #[test]
    fn every_id_that_a_script_looks_up_is_in_the_markup() {
        let mut seen = 0;
        for (name, text) in SCRIPTS {
            for id in text.split("byId(\"").skip(1).map(|it| it.split('"').next().unwrap()) {
                let is_defined = SKELETON.contains(&format!("id=\"{id}\"")) || id == "recording";
                assert!(is_defined, "{name} looks up #{id}");
                seen += 1;
            }
        }
        assert!(seen > 20);
    }
}
