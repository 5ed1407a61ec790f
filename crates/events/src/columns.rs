//! The columns that a text takes in a terminal, or in a picture with letters of one width.

/// The columns of a character: two for those of East Asian scripts and for emoji.
pub(crate) fn letter_width(letter: char) -> usize {
    // From U+2010 on come punctuation, arrows and lines.
    if letter >= '\u{1100}' && !('\u{2010}'..='\u{27bf}').contains(&letter) { 2 } else { 1 }
}

/// The columns of a text.
pub(crate) fn width(text: &str) -> usize {
    text.chars().map(letter_width).sum()
}

/// A text cut to `columns` columns, with `...` at its end if something is missing.
pub(crate) fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut cut = String::new();
    let mut used = 3;
    for letter in text.chars() {
        used += letter_width(letter);
        if used > columns {
            break;
        }
        cut.push(letter);
    }
    cut + "..."
}
