//! The project of exercises that `echown learn init` writes.

use std::path::{Path, PathBuf};

use echown_learn::Project;

use super::LESSONS;

/// The exercises, without a manifest: for their texts.
pub(crate) fn exercises() -> Project {
    Project {
        lessons: LESSONS,
        attribute: "echown::test",
        manifest: String::new(),
        readme: include_str!("project.md"),
        rustfmt: include_str!("rustfmt.toml"),
    }
}

/// The project, which depends on this package in the folder `package`.
///
/// # Errors
/// The message for the user: the package is not there, or its path cannot be written in a manifest.
pub(crate) fn project(package: &Path) -> Result<Project, String> {
    let refused = |why: &str| format!("{} {why}", package.display());
    let package =
        package.canonicalize().map_err(|error| refused(&format!("is not there: {error}")))?;
    let manifest = std::fs::read_to_string(package.join("Cargo.toml"));
    if !manifest.is_ok_and(|manifest| manifest.contains("name = \"echown\"")) {
        return Err(refused("is not the folder of the package `echown`"));
    }
    let path = package.to_str().ok_or_else(|| refused("is not UTF-8"))?;
    // A text of JSON is also one of TOML.
    let path = serde_json::Value::from(path);
    let manifest = format!(
        "# The exercises of `echown learn`: README.md says how to work with them.
[package]
name = \"echown-exercises\"
version = \"0.0.0\"
edition = \"2024\"
publish = false
autotests = false

# Not a member of a workspace above.
[workspace]

[dev-dependencies]
echown = {{ path = {path}, default-features = false, features = [\"macros\"] }}
# System calls that the standard library does not have.
nix = {{ version = \"0.31\", default-features = false }}
rustix = {{ version = \"1.1\", features = [\"net\", \"pipe\"] }}
"
    );
    Ok(Project { manifest, ..exercises() })
}

/// Where this program was built, if the sources are still there.
pub(crate) fn built_in() -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    folder.join("Cargo.toml").exists().then_some(folder)
}
