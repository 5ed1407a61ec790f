//! How text is wrapped: at spaces only, because paths and code are not broken.

use textwrap::{Options, WordSeparator, WordSplitter};

/// The options for this width in columns.
pub(crate) fn wrapping<'a>(columns: usize) -> Options<'a> {
    Options::new(columns)
        .break_words(false)
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation)
}
