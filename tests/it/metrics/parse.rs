//! A strict reader of the two text formats, which accepts only what this program may write.

use std::collections::BTreeSet;

/// A metric with all of its samples.
#[derive(Debug)]
pub struct Family {
    pub name: String,
    pub kind: String,
    pub samples: Vec<Sample>,
}

#[derive(Debug)]
pub struct Sample {
    pub name: String,
    pub labels: Vec<(String, String)>,
    pub value: f64,
}

impl Sample {
    /// The name with the labels. The formats write the bounds of buckets differently.
    pub fn series(&self) -> String {
        if self.labels.is_empty() {
            return self.name.clone();
        }
        let labels = self.labels.iter().map(|(label, value)| match value.parse::<f64>() {
            Ok(bound) if label == "le" => format!("{label}=\"{bound}\""),
            _ => format!("{label}=\"{value}\""),
        });
        format!("{}{{{}}}", self.name, labels.collect::<Vec<_>>().join(","))
    }

    fn of(line: &str) -> Sample {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
        let value = value.parse().unwrap_or_else(|_| panic!("not a number: {line}"));
        let (name, labels) = match series.split_once('{') {
            None => (series, Vec::new()),
            Some((name, labels)) => {
                let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("no end: {line}"));
                (name, labels.split(',').map(label).collect())
            }
        };
        assert!(is_name(name), "{line}");
        Sample { name: name.to_owned(), labels, value }
    }
}

/// A label and its value, which contains nothing that must be escaped.
fn label(text: &str) -> (String, String) {
    let (label, value) = text.split_once('=').unwrap_or_else(|| panic!("not a label: {text}"));
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    let value = value.unwrap_or_else(|| panic!("not quoted: {text}"));
    assert!(is_name(label) && !value.contains(['"', '\\', '\n', ' ']), "{text}");
    (label.to_owned(), value.to_owned())
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// The families of a text without its end mark. In `open` metrics the name of a counter's family has no
/// `_total`, an information has a type of its own, and units have lines.
pub fn families(text: &str, open: bool) -> Vec<Family> {
    assert!(text.ends_with('\n') && !text.contains("\n\n") && !text.contains('\r'), "{text:?}");
    let mut families: Vec<Family> = Vec::new();
    let mut help: Option<&str> = None;
    for line in text.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "HELP", name, text] => {
                assert!(help.is_none() && text.ends_with('.') && !text.contains('\\'), "{line}");
                help = Some(name);
            }
            ["#", "TYPE", name, kind] => {
                assert_eq!(help.take(), Some(name), "the help comes first");
                let is_new = !families.iter().any(|family| family.name == name);
                assert!(is_name(name) && is_new, "{line}");
                let (name, kind) = (name.to_owned(), kind.to_owned());
                families.push(Family { name, kind, samples: Vec::new() });
            }
            ["#", "UNIT", name, unit] => {
                let family = families.last().expect("a type comes first");
                assert!(open && family.name == name && family.samples.is_empty(), "{line}");
                assert!(name.ends_with(&format!("_{unit}")), "{line}");
            }
            _ => {
                assert!(help.is_none() && !line.starts_with('#'), "{line}");
                let family = families.last_mut().expect("a type comes first");
                family.samples.push(Sample::of(line));
            }
        }
    }
    families.iter().for_each(|family| check(family, open));
    families
}

/// Checks the names of a family's samples, and its values.
fn check(family: &Family, open: bool) {
    let suffixes: &[&str] = match (&*family.kind, open) {
        ("counter", true) => &["_total"],
        ("info", true) => &["_info"],
        ("histogram", _) => &["_bucket", "_sum", "_count"],
        ("gauge", _) => &[""],
        ("counter", false) if family.name.ends_with("_total") => &[""],
        other => panic!("{other:?}: {family:#?}"),
    };
    let mut seen = BTreeSet::new();
    for sample in &family.samples {
        let suffix = sample.name.strip_prefix(&family.name).expect("it is of this family");
        assert!(suffixes.contains(&suffix), "{sample:?}");
        assert!(seen.insert(sample.series()), "twice: {sample:?}");
        assert!(sample.value >= 0.0 && sample.value.is_finite(), "{sample:?}");
    }
    assert!(!seen.is_empty(), "{family:?}");
    if family.kind == "histogram" {
        check_histogram(family);
    }
}

/// Bounds and counts grow, and the last bucket has all.
fn check_histogram(family: &Family) {
    let of = |suffix: &str| {
        let name = format!("{}{suffix}", family.name);
        let samples = family.samples.iter().filter(move |sample| sample.name == name);
        samples.collect::<Vec<_>>()
    };
    let bound = |sample: &Sample| match &sample.labels[..] {
        [(label, bound)] if label == "le" => bound.parse::<f64>().expect("it is a number"),
        other => panic!("{other:?}"),
    };
    let buckets = of("_bucket");
    for two in buckets.windows(2) {
        assert!(bound(two[0]) < bound(two[1]) && two[0].value <= two[1].value, "{two:?}");
    }
    let last = buckets.last().expect("there are buckets");
    assert_eq!((bound(last), last.value), (f64::INFINITY, of("_count")[0].value));
}
