//! Progress: which lessons are done, in a file of the user.
//!
//! The file is replaced as a whole, so a reader never sees half of it. A damaged file is kept under
//! another name, and the progress starts again.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The version of the file's schema.
const SCHEMA_VERSION: u32 = 1;

/// The progress of a learner.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Progress {
    schema_version: u32,
    /// By the lesson's name. Lessons that this version does not know are kept.
    lessons: BTreeMap<String, LessonProgress>,
}

/// The progress in one lesson.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct LessonProgress {
    /// What was done with it.
    pub state: State,
    /// Whether the first guess was right; `None` without a guess.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_guess_right: Option<bool>,
}

/// What was done with a lesson.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It was begun: a guess was made.
    #[default]
    Begun,
    /// It was skipped.
    Skipped,
    /// It was read to its end.
    Done,
}

impl Progress {
    /// The progress in a lesson, if it was begun.
    #[must_use]
    pub fn of(&self, lesson: &str) -> Option<LessonProgress> {
        self.lessons.get(lesson).copied()
    }

    /// Records a guess. Only the first one counts.
    pub fn guess(&mut self, lesson: &str, is_right: bool) {
        self.entry(lesson).first_guess_right.get_or_insert(is_right);
    }

    /// Records what was done with a lesson. A lesson that is done stays done.
    pub fn set(&mut self, lesson: &str, state: State) {
        let entry = self.entry(lesson);
        if entry.state != State::Done {
            entry.state = state;
        }
    }

    fn entry(&mut self, lesson: &str) -> &mut LessonProgress {
        self.lessons.entry(lesson.to_owned()).or_default()
    }
}

/// Where the progress is kept.
#[derive(Clone, Debug)]
pub struct ProgressFile {
    path: Option<PathBuf>,
}

impl ProgressFile {
    /// The file below these folders, the values of `XDG_STATE_HOME` and `HOME`. Without an absolute
    /// path in either, nothing is kept.
    #[must_use]
    pub fn below(state_home: Option<OsString>, home: Option<OsString>) -> ProgressFile {
        let absolute = |folder: Option<OsString>| {
            folder.map(PathBuf::from).filter(|folder| folder.is_absolute())
        };
        let folder = absolute(state_home)
            .or_else(|| absolute(home).map(|home| home.join(".local").join("state")));
        ProgressFile { path: folder.map(|folder| folder.join("echown").join("learn.json")) }
    }

    /// The path, if the progress is kept.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Reads the progress. The second value is a sentence about a file that could not be used.
    #[must_use]
    pub fn read(&self) -> (Progress, Option<String>) {
        let Some(path) = &self.path else {
            let why = "Progress is not kept: neither XDG_STATE_HOME nor HOME is set.";
            return (Progress::default(), Some(why.to_owned()));
        };
        let (why, then) = match Stored::read(path) {
            Stored::Progress(progress) => return (progress, None),
            Stored::Damaged(why) => (why, "it starts again, and the old file is kept as a copy"),
            Stored::Unusable(why) => (why, "it is not kept"),
        };
        let warning = format!("Progress in {} cannot be used: {why}; {then}.", path.display());
        (Progress::default(), Some(warning))
    }

    /// Reads the progress, changes it and writes it. A damaged file is kept under another name. Without
    /// a file, or if a newer version has written it, nothing is written.
    ///
    /// # Errors
    /// The message for the user.
    pub fn change(&self, change: impl FnOnce(&mut Progress)) -> Result<(), String> {
        let Some(path) = &self.path else { return Ok(()) };
        let failed =
            |error: io::Error| format!("Progress cannot be kept in {}: {error}", path.display());
        let mut progress = match Stored::read(path) {
            Stored::Progress(progress) => progress,
            Stored::Damaged(_) => {
                fs::rename(path, unused_name(path)).map_err(failed)?;
                Progress::default()
            }
            // Said when it was read.
            Stored::Unusable(_) => return Ok(()),
        };
        change(&mut progress);
        progress.schema_version = SCHEMA_VERSION;
        replace(path, &progress).map_err(failed)
    }

    /// Removes the progress. Returns whether there was any.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn reset(&self) -> io::Result<bool> {
        let Some(path) = &self.path else { return Ok(false) };
        match fs::remove_file(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn replace(path: &Path, progress: &Progress) -> io::Result<()> {
    let text = serde_json::to_string_pretty(progress)?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let temporary = path.with_extension(format!("json.{}", std::process::id()));
    fs::write(&temporary, text + "\n")
        .and_then(|()| fs::rename(&temporary, path))
        .inspect_err(|_| drop(fs::remove_file(&temporary)))
}

/// A name next to the file for a damaged copy, which no earlier copy has.
fn unused_name(path: &Path) -> PathBuf {
    let names = (2..).map(|number| path.with_extension(format!("json.damaged-{number}")));
    let mut names = std::iter::once(path.with_extension("json.damaged")).chain(names);
    names.find(|name| !name.exists()).unwrap_or_else(|| path.with_extension("json.damaged"))
}

/// What the file contains.
enum Stored {
    Progress(Progress),
    /// Why it is no progress.
    Damaged(String),
    /// Why it must be left as it is.
    Unusable(String),
}

impl Stored {
    fn read(path: &Path) -> Stored {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Stored::Progress(Progress::default());
            }
            Err(error) => return Stored::Unusable(error.to_string()),
        };
        let version =
            serde_json::from_slice(&bytes).map(|Version { schema_version }| schema_version);
        match (version, serde_json::from_slice(&bytes)) {
            (Ok(version), _) if version > SCHEMA_VERSION => {
                Stored::Unusable(format!("a newer program has written it (version {version})"))
            }
            (_, Ok(progress)) => Stored::Progress(progress),
            (_, Err(error)) => Stored::Damaged(format!("it is damaged: {error}")),
        }
    }
}

/// The version of a file, whatever else is in it.
#[derive(Deserialize)]
struct Version {
    schema_version: u32,
}
