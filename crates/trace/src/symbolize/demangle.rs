//! Demangling: names of C++ and Rust as their authors write them.
//!
//! Only a name with the prefix of a scheme is demangled. The demanglers accept names without it, too: a
//! C function `h` would become the type `unsigned char`.

use cpp_demangle::Symbol;

/// The prefixes of C++ and of Rust before its scheme v0. Some linkers add an underscore.
const CPP: [&str; 2] = ["_Z", "__Z"];

/// The prefixes of Rust's scheme v0.
const RUST: [&str; 2] = ["_R", "__R"];

/// The name of a function as its author writes it; the same name if it is not mangled.
pub(super) fn demangled(name: &str) -> String {
    let is_of = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    let is_cpp = is_of(&CPP);
    if (is_cpp || is_of(&RUST))
        && let Ok(rust) = rustc_demangle::try_demangle(name)
    {
        // Without the hash.
        return format!("{rust:#}");
    }
    let cpp = is_cpp.then(|| Symbol::new(name).ok()?.demangle().ok()).flatten();
    cpp.unwrap_or_else(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::demangled;

    #[test]
    fn names_of_c_functions_stay_although_they_could_be_types() {
        for name in ["h", "i", "f", "v", "x", "b", "a", "Pc", "Ss", "Kc", "main", "", "_R", "_Z"] {
            assert_eq!(demangled(name), name);
        }
        // Without the underscore, it is no name of Rust.
        for name in ["ZN3app4open17h0123456789abcdefE", "RNvC3app4open"] {
            assert_eq!(demangled(name), name);
        }
    }

    #[test]
    fn names_of_cpp_and_rust_are_those_of_the_source() {
        assert_eq!(demangled("_ZN3app4openEi"), "app::open(int)");
        assert_eq!(demangled("_Z4openPKc.cold"), "open(char const*) [clone .cold]");
        assert_eq!(demangled("_ZN3app4open17h0123456789abcdefE"), "app::open");
        assert_eq!(demangled("_RNvC3app4open"), "app::open");
    }
}
