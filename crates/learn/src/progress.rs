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
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return (Progress::default(), None);
            }
            Err(error) if error.kind() != io::ErrorKind::InvalidData => {
                let why = format!("Progress cannot be read: {}: {error}", path.display());
                return (Progress::default(), Some(why));
            }
            Err(_) => String::new(),
        };
        match serde_json::from_str(&text) {
            Ok(progress) => (progress, None),
            Err(error) => (Progress::default(), Some(set_aside(path, &error))),
        }
    }

    /// Reads the progress, changes it and writes it. Without a file, nothing is written.
    ///
    /// # Errors
    /// The message for the user.
    pub fn change(&self, change: impl FnOnce(&mut Progress)) -> Result<(), String> {
        let Some(path) = &self.path else { return Ok(()) };
        let (mut progress, _) = self.read();
        change(&mut progress);
        progress.schema_version = SCHEMA_VERSION;
        let failed =
            |error: io::Error| format!("Progress cannot be kept in {}: {error}", path.display());
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

/// Keeps a damaged file under another name. Returns the sentence about it.
fn set_aside(path: &Path, error: &serde_json::Error) -> String {
    let kept = path.with_extension("json.damaged");
    let what = format!("The progress in {} is damaged ({error})", path.display());
    match fs::rename(path, &kept) {
        Ok(()) => format!("{what}. It starts again; the old file is kept as {}.", kept.display()),
        Err(error) => format!("{what}, and the file cannot be renamed: {error}."),
    }
}
