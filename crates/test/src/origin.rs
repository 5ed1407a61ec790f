//! The origin of a stack frame: whose code it is. Pure, except that the name of a package outside of
//! the registry's folders is read from its manifest.
//!
//! The path in the debug information decides. In release builds with `line-tables-only`, the names
//! of inlined functions are unqualified (`new`, `{closure#0}`), so a name decides only where there
//! is no path.

/// Whose code a function is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The test author's: a file of the package, or of another member of its workspace.
    Own { file: String },
    /// A package from elsewhere (`ureq 2.6.0`), and the path in its folder. The version is missing
    /// if it is unknown.
    Package { package: String, file: String },
    /// The standard library.
    Std { file: String },
    /// A library of the system, written in C.
    System { file: String },
    /// This crate.
    Harness,
    /// Unknown: no path, and the name does not tell.
    Unknown,
}

/// What the paths of one program are compared with.
pub(super) struct Folders<'a> {
    /// The folder in which the compiler ran; empty if unknown.
    pub(super) root: &'a str,
    /// The folder of this crate's sources, as the compiler was given it.
    pub(super) harness: &'a str,
    /// The name and the version in the manifest of a folder: `ureq 2.6.0`.
    pub(super) package_in: &'a dyn Fn(&str) -> Option<String>,
}

/// Crates whose functions this crate's frames have without debug information.
const HARNESS: [&str; 3] = ["echown_test", "echown_fd", "echown_report"];

const STD: [&str; 3] = ["std", "core", "alloc"];

/// File endings of languages that system libraries are written in.
const C_ENDINGS: [&str; 9] = ["c", "h", "S", "s", "cc", "cpp", "cxx", "hpp", "inl"];

/// Folders in which distributions build their libraries, and relative paths, which glibc has.
const SYSTEM_FOLDERS: [&str; 7] = ["/usr/", "/build/", "/builddir/", "/lib", "/nix/", "./", "../"];

/// The origin of a function. `path` is as the compiler wrote it.
pub(super) fn origin(path: Option<&str>, function: &str, folders: &Folders<'_>) -> Origin {
    let Some(path) = path else { return of_function(function) };
    let path = path.replace('\\', "/");
    if is_below(&path, folders.harness) {
        return Origin::Harness;
    }
    if let Some(file) = in_std(&path) {
        return Origin::Std { file };
    }
    let found = in_registry(&path).or_else(|| in_checkout(&path, folders));
    if let Some((package, file)) = found.or_else(|| in_vendor_folder(&path, folders)) {
        return Origin::Package { package, file };
    }
    if let Some(file) = below(&path, folders.root) {
        return Origin::Own { file: file.to_owned() };
    }
    if is_system(&path) {
        return Origin::System { file: path };
    }
    match in_numbered_folder(&path).or_else(|| in_package(&path, folders)) {
        Some((package, file)) => Origin::Package { package, file },
        None => Origin::Own { file: path },
    }
}

/// The type that drop glue drops, if it is not the standard library's: `core::ptr::drop_in_place<T>`
/// names `T`, or the innermost type in it that is not the standard library's.
pub(super) fn dropped_type(function: &str) -> Option<&str> {
    let rest = function.strip_prefix("core::ptr::").unwrap_or(function);
    let rest = rest.strip_prefix("drop_in_place").or_else(|| rest.strip_prefix("drop_glue"))?;
    let rest = rest.strip_prefix("::").unwrap_or(rest).strip_prefix('<')?;
    let is_in_path = |sign: char| sign.is_alphanumeric() || "_:{}#".contains(sign);
    rest.split(|sign| !is_in_path(sign)).map(|part| part.trim_matches(':')).find(|part| {
        let first = part.split("::").next().unwrap_or_default();
        part.contains("::") && !STD.contains(&first)
    })
}

/// A function's name without the arguments of its generics, if it has no path in front of them. The
/// names of inlined functions have them in full, which is long.
pub(super) fn short(function: &str) -> &str {
    match function.find('<') {
        Some(end) if end > 0 && !function[..end].contains("::") => &function[..end],
        _ => function,
    }
}

/// The crate of a function by its name: the first part of its path.
pub(super) fn crate_of(function: &str) -> Option<&str> {
    let path = function.trim_start_matches(['<', '&', '*', '(', '[']);
    let path = path.strip_prefix("mut ").or_else(|| path.strip_prefix("dyn ")).unwrap_or(path);
    let (first, _) = path.split_once("::")?;
    let is_name = first.chars().all(|sign| sign.is_alphanumeric() || sign == '_');
    (is_name && !first.is_empty()).then_some(first)
}

/// The origin of a function without a path.
pub(super) fn of_function(function: &str) -> Origin {
    match crate_of(function) {
        Some(name) if STD.contains(&name) => Origin::Std { file: String::new() },
        Some(name) if HARNESS.contains(&name) => Origin::Harness,
        // `__rust_try`, which the compiler makes.
        _ if function.starts_with("__rust_") => Origin::Std { file: String::new() },
        _ => Origin::Unknown,
    }
}

/// The part of a path below a folder. Nothing is below an unknown folder.
fn below<'p>(path: &'p str, folder: &str) -> Option<&'p str> {
    let folder = folder.trim_end_matches('/');
    path.strip_prefix(folder)?.strip_prefix('/').filter(|_| !folder.is_empty())
}

/// Whether a path is below a folder, which may be relative to an unknown one.
fn is_below(path: &str, folder: &str) -> bool {
    let is_relative = !folder.is_empty() && !folder.starts_with('/');
    below(path, folder).is_some() || (is_relative && path.contains(&format!("/{folder}/")))
}

/// `/rustc/HASH/library/std/src/fs.rs`, rust-src below `lib/rustlib`, and the sources of a
/// distribution's compiler: `/usr/src/rustc-1.85.0/library/std/src/fs.rs`.
fn in_std(path: &str) -> Option<String> {
    let is_compilers = path.starts_with("/rustc/") || path.contains("/rustlib/");
    let (before, after) = path.split_once("/library/").unwrap_or((path, ""));
    let is_source = before.rsplit('/').next().is_some_and(|last| last.starts_with("rustc-"));
    let is_std = is_compilers || path.starts_with("/rust/deps/") || is_source;
    is_std.then(|| if after.is_empty() { path.to_owned() } else { after.to_owned() })
}

/// `NAME-VERSION` as a name and a version.
fn numbered(folder: &str) -> Option<(&str, &str)> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    let dashes = folder.match_indices('-').map(|(at, _)| (&folder[..at], &folder[at + 1..]));
    dashes.into_iter().find(|(name, version)| {
        let mut parts = version.splitn(3, '.');
        let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let patch = parts.next().unwrap_or_default();
        let begins = patch.starts_with(|first: char| first.is_ascii_digit());
        !name.is_empty() && is_number(major) && is_number(minor) && begins
    })
}

/// The package of the first numbered folder in a part of a path.
fn in_numbered_folder(path: &str) -> Option<(String, String)> {
    let mut start = 0;
    for part in path.split('/') {
        let end = start + part.len();
        if let (Some((name, version)), Some(file)) = (numbered(part), path.get(end + 1..)) {
            // Bazel has a prefix: `crates__ureq-2.6.0`.
            let name = name.rsplit("__").next().unwrap_or(name);
            return Some((format!("{name} {version}"), file.to_owned()));
        }
        start = end + 1;
    }
    None
}

/// `.../registry/src/INDEX/NAME-VERSION/FILE`, and the packages of a distribution in
/// `/usr/share/cargo/registry/NAME-VERSION`.
fn in_registry(path: &str) -> Option<(String, String)> {
    in_numbered_folder(path.split_once("/registry/")?.1)
}

/// `.../git/checkouts/REPOSITORY-HASH/REVISION/FILE`. The repository may contain several packages.
fn in_checkout(path: &str, folders: &Folders<'_>) -> Option<(String, String)> {
    let (_, rest) = path.split_once("/git/checkouts/")?;
    let mut parts = rest.splitn(3, '/');
    let (repository, revision, file) = (parts.next()?, parts.next()?, parts.next()?);
    if let Some(found) = in_package(path, folders) {
        return Some(found);
    }
    let (member, file) = match file.split_once("/src/") {
        Some((folder, file)) => (folder.rsplit('/').next(), format!("src/{file}")),
        None => (None, file.to_owned()),
    };
    let name = member.or_else(|| Some(repository.rsplit_once('-')?.0)).unwrap_or(repository);
    Some((format!("{name} {revision}"), file))
}

/// `.../vendor/NAME/FILE`, as `cargo vendor` makes it, and `.../vendor/NAME-VERSION/FILE`.
fn in_vendor_folder(path: &str, folders: &Folders<'_>) -> Option<(String, String)> {
    let (at, _) = path.match_indices("/vendor/").last()?;
    let begin = at + "/vendor/".len();
    let (name, file) = path[begin..].split_once('/')?;
    match (folders.package_in)(&path[..begin + name.len()]) {
        Some(package) => Some((package, file.to_owned())),
        None => in_numbered_folder(&path[begin..]),
    }
}

/// The package whose folder contains the file, by its manifest.
fn in_package(path: &str, folders: &Folders<'_>) -> Option<(String, String)> {
    let ends = path.rmatch_indices('/').map(|(at, _)| at).filter(|&at| at > 0);
    ends.into_iter().find_map(|end| {
        let package = (folders.package_in)(&path[..end])?;
        Some((package, path[end + 1..].to_owned()))
    })
}

fn is_system(path: &str) -> bool {
    let is_c = path.rsplit_once('.').is_some_and(|(_, ending)| C_ENDINGS.contains(&ending));
    is_c && SYSTEM_FOLDERS.iter().any(|folder| path.starts_with(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "/home/a/work";

    fn at(path: &str) -> Origin {
        let package_in = |folder: &str| match folder {
            "/home/a/work/vendor/flate2" => Some("flate2 1.1.0".to_owned()),
            "/home/a/other" => Some("other 0.3.0".to_owned()),
            "/home/a/.cargo/git/checkouts/tool-0123456789abcdef/89ab/part" => {
                Some("tool-part 2.0.0".to_owned())
            }
            _ => None,
        };
        let harness = "/home/a/echown/crates/test/src";
        origin(Some(path), "", &Folders { root: ROOT, harness, package_in: &package_in })
    }

    fn own(file: &str) -> Origin {
        Origin::Own { file: file.into() }
    }

    fn package(package: &str, file: &str) -> Origin {
        Origin::Package { package: package.into(), file: file.into() }
    }

    fn std(file: &str) -> Origin {
        Origin::Std { file: file.into() }
    }

    #[test]
    fn a_package_of_a_registry_has_its_name_and_its_version() {
        const INDEX: &str = "registry/src/index.crates.io-1949cf8c6b5b557f";
        for cargo in ["/home/a/.cargo", "/Users/a/.cargo", "/root/.cargo", "/home/a/work/.cargo"] {
            let path = format!("{cargo}/{INDEX}/ureq-2.6.0/src/stream.rs");
            assert_eq!(at(&path), package("ureq 2.6.0", "src/stream.rs"));
        }
        for (path, name, file) in [
            (
                r"C:\Users\a\.cargo\registry\src\index.crates.io-6f17d22bba15001f\mio-1.0.3\src\sys\mod.rs",
                "mio 1.0.3",
                "src/sys/mod.rs",
            ),
            (
                "/r/registry/src/github.com-1ecc6299db9ec823/a-b2-c-0.1.0-alpha.1+x86/src/a.rs",
                "a-b2-c 0.1.0-alpha.1+x86",
                "src/a.rs",
            ),
            ("/usr/share/cargo/registry/nix-0.27.1/src/unistd.rs", "nix 0.27.1", "src/unistd.rs"),
            (
                "/r/registry/src/index-1/libsqlite3-sys-0.30.1/sqlite3/sqlite3.c",
                "libsqlite3-sys 0.30.1",
                "sqlite3/sqlite3.c",
            ),
            // Paths that the compiler shortened (`trim-paths`), Nix, and Bazel.
            ("ureq-2.6.0/src/stream.rs", "ureq 2.6.0", "src/stream.rs"),
            ("/build/cargo-vendor-dir/ureq-2.6.0/src/stream.rs", "ureq 2.6.0", "src/stream.rs"),
            ("/b/external/crates__ureq-2.6.0/src/stream.rs", "ureq 2.6.0", "src/stream.rs"),
        ] {
            assert_eq!(at(path), package(name, file), "{path}");
        }
    }

    #[test]
    fn a_package_from_git_or_a_vendor_folder_or_another_folder_has_its_name() {
        const CHECKOUTS: &str = "/home/a/.cargo/git/checkouts";
        for (path, name, file) in [
            (
                format!("{CHECKOUTS}/tokio-dd4afa005f1f4b79/0f9c8a1/tokio/src/net/tcp.rs"),
                "tokio 0f9c8a1",
                "src/net/tcp.rs",
            ),
            (
                format!("{CHECKOUTS}/ureq-dd4afa005f1f4b79/0f9c8a1/src/a.rs"),
                "ureq 0f9c8a1",
                "src/a.rs",
            ),
            (
                format!("{CHECKOUTS}/tool-0123456789abcdef/89ab/part/src/lib.rs"),
                "tool-part 2.0.0",
                "src/lib.rs",
            ),
            (format!("{ROOT}/vendor/flate2/src/gz.rs"), "flate2 1.1.0", "src/gz.rs"),
            (format!("{ROOT}/vendor/rand-0.8.5/src/lib.rs"), "rand 0.8.5", "src/lib.rs"),
            ("/srv/vendor/rand-0.8.5/src/lib.rs".into(), "rand 0.8.5", "src/lib.rs"),
            ("/home/a/other/src/lib.rs".into(), "other 0.3.0", "src/lib.rs"),
            ("/home/a/other/native/poll.c".into(), "other 0.3.0", "native/poll.c"),
        ] {
            assert_eq!(at(&path), package(name, file), "{path}");
        }
    }

    #[test]
    fn the_authors_code_is_the_workspace_whatever_its_language() {
        for (path, file) in [
            ("/home/a/work/src/lib.rs", "src/lib.rs"),
            ("/home/a/work/member/tests/it.rs", "member/tests/it.rs"),
            ("/home/a/work/native/poll.c", "native/poll.c"),
            ("/home/a/work/native/fast.S", "native/fast.S"),
            ("/home/a/work/vendor/mine.rs", "vendor/mine.rs"),
            ("/home/a/work/src/vendor/mine/a.rs", "src/vendor/mine/a.rs"),
            ("src/lib.rs", "src/lib.rs"),
            ("native/poll.c", "native/poll.c"),
            ("/opt/generated.rs", "/opt/generated.rs"),
            // Not a folder of C sources of the system: an image may have its packages here.
            ("/usr/src/app/src/main.rs", "/usr/src/app/src/main.rs"),
        ] {
            assert_eq!(at(path), own(file), "{path}");
        }
        let none = |_: &str| None;
        let folders = Folders { root: "/usr/src/app", harness: "", package_in: &none };
        assert_eq!(origin(Some("/usr/src/app/c/poll.c"), "", &folders), own("c/poll.c"));
    }

    #[test]
    fn the_standard_library_is_recognised_in_each_place() {
        const HASH: &str = "59807616e1fa2540724bfbac14d7976d7e4a3860";
        for (path, file) in [
            (format!("/rustc/{HASH}/library/std/src/fs.rs"), "std/src/fs.rs"),
            (format!(r"/rustc/{HASH}\library\std\src\fs.rs"), "std/src/fs.rs"),
            ("/rustc/1.85.0/library/core/src/ops/function.rs".into(), "core/src/ops/function.rs"),
            (
                "/root/.rustup/toolchains/x/lib/rustlib/src/rust/library/alloc/src/boxed.rs".into(),
                "alloc/src/boxed.rs",
            ),
            ("/usr/lib/rustlib/src/rust/library/std/src/fs.rs".into(), "std/src/fs.rs"),
            ("/usr/src/rustc-1.85.0/library/std/src/fs.rs".into(), "std/src/fs.rs"),
            ("/build/rustc-1.85.0-src/library/std/src/fs.rs".into(), "std/src/fs.rs"),
            ("/rust/deps/gimli-0.31.1/src/read.rs".into(), "/rust/deps/gimli-0.31.1/src/read.rs"),
        ] {
            assert_eq!(at(&path), std(file), "{path}");
        }
        assert_eq!(at("/home/a/work/library/std/src/fs.rs"), own("library/std/src/fs.rs"));
    }

    #[test]
    fn c_code_of_the_system_is_recognised_by_its_folder() {
        for path in [
            "./io/../sysdeps/unix/sysv/linux/open64.c",
            "./nptl/pthread_create.c",
            "../sysdeps/unix/syscall-template.S",
            "/build/glibc-qK83Be/glibc-2.36/io/open.c",
            "/usr/src/debug/glibc-2.39-1.x86_64/io/open.c",
            "/usr/include/c++/14/fstream",
        ] {
            let expected = match path.ends_with("fstream") {
                true => own(path),
                false => Origin::System { file: path.into() },
            };
            assert_eq!(at(path), expected, "{path}");
        }
    }

    #[test]
    fn this_crate_is_recognised_by_its_folder_and_by_its_functions() {
        assert_eq!(at("/home/a/echown/crates/test/src/child.rs"), Origin::Harness);
        let none = |_: &str| None;
        let folders = Folders { root: ROOT, harness: "crates/test/src", package_in: &none };
        let path = "/home/a/echown/crates/test/src/child.rs";
        assert_eq!(origin(Some(path), "execute", &folders), Origin::Harness);
        for (function, expected) in [
            ("echown_test::child::__rust_begin_short_backtrace", Origin::Harness),
            ("<std::sys::fs::unix::File>::open_c::{closure#0}", std("")),
            ("<&mut alloc::boxed::Box<T> as core::ops::Deref>::deref", std("")),
            ("__rust_try", std("")),
            ("mailer::send", Origin::Unknown),
            ("standard::open", Origin::Unknown),
            ("sqlite3_open", Origin::Unknown),
            ("<F as core::ops::function::FnOnce>::call_once", Origin::Unknown),
        ] {
            assert_eq!(origin(None, function, &folders), expected, "{function}");
        }
    }

    #[test]
    fn drop_glue_names_the_innermost_type_that_is_not_of_the_standard_library() {
        for (function, expected) in [
            ("core::ptr::drop_in_place<mailer::Client>", Some("mailer::Client")),
            ("core::ptr::drop_in_place::<mailer::Client>", Some("mailer::Client")),
            (
                "drop_in_place<alloc::vec::Vec<a::b::C<std::fs::File>, alloc::alloc::Global>>",
                Some("a::b::C"),
            ),
            ("core::ptr::drop_in_place<core::option::Option<std::fs::File>>", None),
            ("core::ptr::drop_in_place<[std::fs::File]>", None),
            ("core::ptr::drop_in_place<[a::B; 3]>", Some("a::B")),
            ("core::ptr::drop_in_place<&mut dyn a::B>", Some("a::B")),
            ("core::ptr::drop_in_place<a::b::{{closure}}>", Some("a::b::{{closure}}")),
            ("mailer::drop_in_place", None),
            ("<a::B as core::ops::drop::Drop>::drop", None),
        ] {
            assert_eq!(dropped_type(function), expected, "{function}");
        }
    }

    #[test]
    fn a_name_without_a_path_loses_the_arguments_of_its_generics() {
        assert_eq!(short("connect<&str>"), "connect");
        assert_eq!(short("{closure#0}<(), std::fs::File>"), "{closure#0}");
        assert_eq!(short("a::connect::<&str>"), "a::connect::<&str>");
        assert_eq!(short("<a::B as c::D>::e"), "<a::B as c::D>::e");
    }
}
