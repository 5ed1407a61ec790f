//! `Project`: a folder with an exercise for each lesson, a test that fails until the reader fixes it.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::{Lesson, Program};

/// The parts of the project that depend on what the lessons are about.
#[derive(Debug)]
pub struct Project {
    /// The lessons, in order.
    pub lessons: &'static [Lesson],
    /// The path of the attribute that judges a test, such as `tokio::test`.
    pub attribute: &'static str,
    /// The manifest without its tests, which [`write`](Project::write) adds.
    pub manifest: String,
    /// How to work with the project. Markdown; a list of the exercises follows.
    pub readme: &'static str,
    /// The configuration of rustfmt.
    pub rustfmt: &'static str,
}

impl Project {
    /// Writes the project into a folder that does not exist or is empty. It appears there complete or
    /// not at all: it is written to a folder inside and then moved.
    ///
    /// # Errors
    /// The folder contains something, or a file cannot be written.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        let was_there = folder.exists();
        fs::create_dir_all(folder)?;
        if fs::read_dir(folder)?.next().is_some() {
            return Err(io::Error::new(io::ErrorKind::DirectoryNotEmpty, "it is not empty"));
        }
        let unfinished = folder.join(".unfinished");
        let mut moved = Vec::new();
        let written =
            self.write_files(&unfinished).and_then(|()| move_up(&unfinished, folder, &mut moved));
        if written.is_err() {
            let _ = fs::remove_dir_all(&unfinished);
            for path in moved {
                let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
            }
            if !was_there {
                let _ = fs::remove_dir(folder);
            }
        }
        written
    }

    fn write_files(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir(folder)?;
        fs::create_dir(folder.join("src"))?;
        fs::create_dir(folder.join("tests"))?;
        let mut manifest = self.manifest.clone();
        let mut readme = format!("{}\n## Exercises\n\n", self.readme);
        for (number, lesson) in (1..).zip(self.lessons) {
            let file = file_name(number, lesson);
            let (name, title) = (lesson.name, lesson.title);
            let _ = write!(manifest, "\n[[test]]\nname = \"{name}\"\npath = \"tests/{file}\"\n");
            let _ = writeln!(
                readme,
                "{number}. [`tests/{file}`](tests/{file}): {title}. `cargo test --test {name}`"
            );
            fs::write(folder.join("tests").join(&file), self.exercise(lesson))?;
        }
        fs::write(folder.join("Cargo.toml"), manifest)?;
        fs::write(folder.join("README.md"), readme)?;
        fs::write(folder.join("rustfmt.toml"), self.rustfmt)?;
        fs::write(folder.join(".gitignore"), "/target\n")?;
        fs::write(folder.join("src/lib.rs"), "//! Nothing here: the exercises are in `tests/`.\n")
    }

    /// The exercise: the program with the bug, and its test.
    #[must_use]
    pub fn exercise(&self, lesson: &Lesson) -> String {
        self.with_test(lesson, &lesson.broken)
    }

    /// The solution: the fixed program, and the same test.
    #[must_use]
    pub fn solution(&self, lesson: &Lesson) -> String {
        self.with_test(lesson, &lesson.fixed)
    }

    fn with_test(&self, lesson: &Lesson, program: &Program) -> String {
        let (text, name, attribute) = (program.text, lesson.test.name, self.attribute);
        let options = match lesson.test.options {
            "" => String::new(),
            options => format!("({options})"),
        };
        format!(
            "{text}\n#[{attribute}{options}]\nfn {name}() -> Result<(), Box<dyn Error>> {{\n    run()\n}}\n"
        )
    }
}

/// Moves what is in a folder to the one above, and removes the folder.
fn move_up(from: &Path, to: &Path, moved: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let path = to.join(entry.file_name());
        fs::rename(entry.path(), &path)?;
        moved.push(path);
    }
    fs::remove_dir(from)
}

/// The name of an exercise's file.
fn file_name(number: usize, lesson: &Lesson) -> String {
    format!("{number:02}_{}.rs", lesson.name.replace('-', "_"))
}
