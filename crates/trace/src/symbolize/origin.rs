//! Whose code a function is, by the paths of its file and of its source.

use std::path::Path;

use echown_report::StackFrame;

/// Folders of the system's libraries and programs.
const SYSTEM_FOLDERS: [&str; 5] = ["/lib/", "/lib64/", "/usr/lib/", "/usr/lib64/", "/usr/libexec/"];

/// The C library and the dynamic linker, by the start of their names.
const C_LIBRARY: [&str; 12] = [
    "ld-linux",
    "ld-musl",
    "libBrokenLocale.",
    "libanl.",
    "libc.",
    "libc-",
    "libdl.",
    "libm.",
    "libpthread",
    "libresolv",
    "librt.",
    "libnss_",
];

/// Standard libraries of other languages.
const STANDARD: [&str; 4] = ["libgcc_s.", "libgo.", "libstdc++.", "libc++"];

/// Interpreters: their own functions stand between the author's code and the system.
const INTERPRETERS: [&str; 6] = ["libnode.", "libpython", "node", "nodejs", "pypy", "python"];

/// Functions between the kernel and `main`, in a static program.
const START: [&str; 5] =
    ["_start", "_start_c", "libc_start_main_stage2", "__libc_start_main", "__libc_start_call_main"];

/// Folders of Go's standard library.
const GO_STD: [&str; 40] = [
    "archive",
    "bufio",
    "bytes",
    "compress",
    "container",
    "context",
    "crypto",
    "database",
    "debug",
    "embed",
    "encoding",
    "errors",
    "expvar",
    "flag",
    "fmt",
    "hash",
    "html",
    "image",
    "index",
    "internal",
    "io",
    "iter",
    "log",
    "maps",
    "math",
    "mime",
    "net",
    "os",
    "path",
    "plugin",
    "reflect",
    "regexp",
    "runtime",
    "slices",
    "sort",
    "strconv",
    "strings",
    "sync",
    "syscall",
    "vendor",
];

/// Whose code a function is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Origin {
    /// It is the author's.
    pub(super) is_own: bool,
    /// The package, if it is not the author's.
    pub(super) package: Option<String>,
    /// The path of the source to show.
    pub(super) file: Option<String>,
}

impl Origin {
    fn own(file: &str) -> Origin {
        Origin { is_own: true, package: None, file: Some(file.to_owned()) }
    }

    fn of(package: &str, file: Option<&str>) -> Origin {
        Origin { is_own: false, package: Some(package.to_owned()), file: file.map(str::to_owned) }
    }
}

/// The origin of a function in a file with code. `source` is as the compiler wrote it, `folder` the
/// current folder, below which paths are shortened.
pub(super) fn of_code(module: &str, function: &str, source: Option<&str>, folder: &str) -> Origin {
    let name = module.strip_suffix(" (deleted)").unwrap_or(module);
    let name = name.rsplit('/').next().unwrap_or(name);
    let starts = |names: &[&str]| names.iter().any(|start| name.starts_with(start));
    let is_library = name.contains(".so");
    let is_system = SYSTEM_FOLDERS.iter().any(|folder| module.starts_with(folder));
    if START.contains(&function) {
        return Origin::of(StackFrame::SYSTEM, source);
    }
    if is_library && starts(&C_LIBRARY) || module == "[vdso]" {
        return Origin::of(StackFrame::SYSTEM, source);
    }
    if is_library && starts(&STANDARD) {
        return Origin::of(StackFrame::STD, source);
    }
    if starts(&INTERPRETERS) {
        return Origin::of(StackFrame::STD, None);
    }
    if let Some(source) = source {
        let by_source = of_rust(source).or_else(|| of_go(source, function));
        let by_source = by_source.or_else(|| of_cpp(source));
        if let Some(origin) = by_source {
            return origin;
        }
    }
    match source {
        _ if is_library && is_system => Origin::of(name, source),
        Some(source) => Origin::own(below(source, folder)),
        // A frame without a source can be named, but it is no place.
        None if is_library || function.is_empty() => Origin::of(name, None),
        None => Origin { is_own: true, package: None, file: None },
    }
}

/// The origin of a function of an interpreted program.
pub(super) fn of_script(file: &str, folder: &str) -> Origin {
    let plain = file.strip_prefix("file://").unwrap_or(file);
    for (marker, is_scoped) in
        [("/site-packages/", false), ("/dist-packages/", false), ("/node_modules/", true)]
    {
        let Some(found) = plain.rfind(marker) else { continue };
        let rest = &plain[found + marker.len()..];
        let parts = if is_scoped && rest.starts_with('@') { 2 } else { 1 };
        let end = rest.match_indices('/').nth(parts - 1).map_or(rest.len(), |(end, _)| end);
        return Origin::of(rest[..end].trim_end_matches(".py"), Some(rest));
    }
    let is_standard = plain.starts_with('<') && !is_unsaved(plain)
        || plain.starts_with("node:")
        || plain.starts_with("internal/")
        || plain.contains("/lib/python3")
        || plain.contains("/lib/python2");
    if is_standard {
        return Origin::of(StackFrame::STD, Some(plain));
    }
    Origin::own(below(plain, folder))
}

/// Python's name for a text that is no file.
pub(super) const STRING: &str = "<string>";

/// Whether Python's name of a file stands for the author's code that is in no file: that of `-c`, of
/// standard input and of an interactive session. Others, such as `<frozen os>`, are the interpreter's.
fn is_unsaved(file: &str) -> bool {
    matches!(file, STRING | "<stdin>") || file.starts_with("<python-input-")
}

/// Rust's standard library, and packages from the registry.
fn of_rust(source: &str) -> Option<Origin> {
    let is_std = source.starts_with("/rustc/") || source.contains("/lib/rustlib/src/rust/library/");
    if is_std {
        let file = source.split_once("/library/").map(|(_, file)| file);
        return Some(Origin::of(StackFrame::STD, Some(file.unwrap_or(source))));
    }
    let (_, rest) = source.split_once("/registry/src/")?;
    let (_, rest) = rest.split_once('/')?;
    let (folder, file) = rest.split_once('/')?;
    let package =
        match folder.rmatch_indices('-').find(|(at, _)| starts_with_digit(&folder[at + 1..])) {
            Some((at, _)) => format!("{} {}", &folder[..at], &folder[at + 1..]),
            None => folder.to_owned(),
        };
    Some(Origin::of(&package, Some(file)))
}

/// Go's standard library, and modules.
fn of_go(source: &str, function: &str) -> Option<Origin> {
    if !(source.ends_with(".go") || source.ends_with(".s") && function.contains('.')) {
        return None;
    }
    if let Some((before, after)) = source.split_once('@')
        && let Some((version, file)) = after.split_once('/')
    {
        let module = before.rsplit_once("/pkg/mod/").map_or(before, |(_, module)| module);
        return Some(Origin::of(&format!("{module} {version}"), Some(file)));
    }
    // `net/http.(*Server).Serve` is in `net/http`.
    let folders = function.rfind('/').map_or(0, |slash| slash + 1);
    let dot = function[folders..].find('.')?;
    let package = &function[..folders + dot];
    let first = package.split('/').next()?;
    let in_root = source.rsplit_once("/src/").filter(|(root, file)| {
        let is_root = root.rsplit('/').next().is_some_and(|name| name.starts_with("go"));
        is_root && file.split('/').next().is_some_and(|first| GO_STD.contains(&first))
    });
    let is_trimmed = source.starts_with(&format!("{package}/"));
    let is_std = package != "main" && !first.contains('.');
    match in_root {
        Some((_, file)) if is_std => Some(Origin::of(StackFrame::STD, Some(file))),
        // The source of a function that was inlined: Go's own table names only the one around it.
        Some(_) => Some(Origin { is_own: true, package: None, file: None }),
        None => (is_std && is_trimmed).then(|| Origin::of(StackFrame::STD, Some(source))),
    }
}

/// Headers of C++'s standard library.
fn of_cpp(source: &str) -> Option<Origin> {
    let (_, file) = source.split_once("/include/c++/")?;
    Some(Origin::of(StackFrame::STD, Some(file)))
}

fn starts_with_digit(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit())
}

fn below<'a>(path: &'a str, folder: &str) -> &'a str {
    let inside = Path::new(path).strip_prefix(folder).ok().filter(|_| !folder.is_empty());
    inside.and_then(Path::to_str).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(module: &str, function: &str, source: Option<&str>) -> (bool, String, String) {
        shown(of_code(module, function, source, "/work/app"))
    }

    fn shown(origin: Origin) -> (bool, String, String) {
        (origin.is_own, origin.package.unwrap_or_default(), origin.file.unwrap_or_default())
    }

    fn other(package: &str, file: &str) -> (bool, String, String) {
        (false, package.into(), file.into())
    }

    fn own(file: &str) -> (bool, String, String) {
        (true, String::new(), file.into())
    }

    #[test]
    fn the_authors_code_is_outside_the_systems_libraries() {
        let libc = "/usr/lib/x86_64-linux-gnu/libc.so.6";
        assert_eq!(code(libc, "open64", Some("io/open64.c")), other("system", "io/open64.c"));
        let curl = "/usr/lib/x86_64-linux-gnu/libcurl.so.4.8.0";
        assert_eq!(code(curl, "curl_easy_perform", None), other("libcurl.so.4.8.0", ""));
        assert_eq!(code("/work/app/a", "main", Some("/work/app/src/a.c")), own("src/a.c"));
        assert_eq!(code("/work/app/a", "main", None), own(""));
        assert_eq!(code("/work/app/a", "", None), other("a", ""));
        assert_eq!(code("/work/app/libb.so", "b", Some("/work/app/b.c")), own("b.c"));
        assert_eq!(code("/usr/bin/python3.11", "os_open", Some("x.c")), other("std", ""));
        let stream = "/usr/include/c++/12/fstream";
        assert_eq!(code("/work/app/a", "open", Some(stream)), other("std", "12/fstream"));
    }

    #[test]
    fn rust_and_go_packages_are_told_from_the_authors_code() {
        let std = "/rustc/5980/library/std/src/fs.rs";
        assert_eq!(code("/a", "std::fs::open", Some(std)), other("std", "std/src/fs.rs"));
        let ureq = "/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/ureq-2.6.0/src/a.rs";
        assert_eq!(code("/a", "ureq::a", Some(ureq)), other("ureq 2.6.0", "src/a.rs"));
        let go = "/usr/lib/go-1.19/src/net/http/server.go";
        let serve = "net/http.(*Server).Serve";
        assert_eq!(code("/a", serve, Some(go)), other("std", "net/http/server.go"));
        assert_eq!(code("/a", "os.Open", Some("os/file.go")), other("std", "os/file.go"));
        let inlined = "/usr/lib/go-1.19/src/runtime/internal/syscall/syscall_linux.go";
        let expected = other("std", "runtime/internal/syscall/syscall_linux.go");
        assert_eq!(code("/a", "syscall.RawSyscall6", Some(inlined)), expected);
        let around = code("/a", "main.open", Some("/usr/local/go/src/os/file.go"));
        assert_eq!(around, own(""), "the line of an inlined function");
        let path = "/root/go/src/app/main.go";
        assert_eq!(code("/a", "main.open", Some(path)), own(path));
        assert_eq!(code("/a", "main.main", Some("/work/app/main.go")), own("main.go"));
        let module = "/root/go/pkg/mod/github.com/a/b@v1.2.0/c.go";
        let expected = other("github.com/a/b v1.2.0", "c.go");
        assert_eq!(code("/a", "github.com/a/b.C", Some(module)), expected);
    }

    #[test]
    fn scripts_of_packages_and_of_the_interpreter_are_not_the_authors() {
        let script = |file| shown(of_script(file, "/work/app"));
        assert_eq!(script("/work/app/a.py"), own("a.py"));
        assert_eq!(script("file:///work/app/a.mjs"), own("a.mjs"));
        assert_eq!(script("node:fs"), other("std", "node:fs"));
        assert_eq!(
            script("/usr/lib/python3.11/socket.py"),
            other("std", "/usr/lib/python3.11/socket.py")
        );
        assert_eq!(script("<frozen os>"), other("std", "<frozen os>"));
        assert_eq!(script("<__array_function__ internals>").1, "std");
        let requests = "/v/lib/python3.11/site-packages/requests/api.py";
        assert_eq!(script(requests), other("requests", "requests/api.py"));
        assert_eq!(script("/a/node_modules/@b/c/d.js"), other("@b/c", "@b/c/d.js"));
    }

    #[test]
    fn code_of_an_option_or_of_standard_input_is_the_authors() {
        for name in ["<string>", "<stdin>", "<python-input-3>", "[eval]", "[stdin]"] {
            assert_eq!(shown(of_script(name, "/work/app")), own(name));
        }
    }
}
