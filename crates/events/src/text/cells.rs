//! The cells of one row, and the symbols in them.

use std::ops::Range;

use crate::columns::{letter_width, width};

/// A symbol with its meaning, which the key shows if the symbol is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Symbol(char, &'static str);

/// Every symbol.
pub(super) struct Symbols {
    pub(super) owned: Symbol,
    pub(super) offered: Symbol,
    pub(super) parked: Symbol,
    pub(super) split: Symbol,
    pub(super) cancelled: Symbol,
    pub(super) acquired: Symbol,
    pub(super) given: Symbol,
    pub(super) offer: Symbol,
    pub(super) parted: Symbol,
    pub(super) rejoined: Symbol,
    pub(super) cancel: Symbol,
    pub(super) closed: Symbol,
    pub(super) disowned: Symbol,
    pub(super) unknown: Symbol,
    pub(super) finding: Symbol,
}

pub(super) const UNICODE: Symbols = Symbols {
    owned: Symbol('─', ""),
    offered: Symbol('╌', ""),
    parked: Symbol('_', "parked"),
    split: Symbol('·', ""),
    cancelled: Symbol('~', ""),
    acquired: Symbol('●', "acquired"),
    given: Symbol('▶', "handed over"),
    offer: Symbol('◇', "offered"),
    parted: Symbol('┬', "split"),
    rejoined: Symbol('┴', "rejoined"),
    cancel: Symbol('◌', "cancelled"),
    closed: Symbol('×', "closed"),
    disowned: Symbol('○', "disowned"),
    unknown: Symbol('?', "end not recorded"),
    finding: Symbol('!', "finding"),
};

pub(super) const ASCII: Symbols = Symbols {
    owned: Symbol('-', ""),
    offered: Symbol('.', ""),
    parked: Symbol('_', "parked"),
    split: Symbol(':', ""),
    cancelled: Symbol('~', ""),
    acquired: Symbol('o', "acquired"),
    given: Symbol('>', "handed over"),
    offer: Symbol('<', "offered"),
    parted: Symbol('Y', "split"),
    rejoined: Symbol('J', "rejoined"),
    cancel: Symbol('c', "cancelled"),
    closed: Symbol('x', "closed"),
    disowned: Symbol('d', "disowned"),
    unknown: Symbol('?', "end not recorded"),
    finding: Symbol('!', "finding"),
};

impl Symbols {
    /// The used symbols with their meanings, in a fixed order.
    pub(super) fn key(&self, used: &[Symbol]) -> Vec<String> {
        let all = [
            self.acquired,
            self.given,
            self.parked,
            self.offer,
            self.parted,
            self.rejoined,
            self.cancel,
            self.closed,
            self.disowned,
            self.unknown,
            self.finding,
        ];
        let used = all.into_iter().filter(|symbol| used.contains(symbol));
        used.map(|Symbol(symbol, meaning)| format!("{symbol} {meaning}")).collect()
    }
}

/// One cell: a symbol or a character of a label.
#[derive(Clone, Copy)]
enum Cell {
    Empty,
    /// With its rank: a higher one replaces it.
    Symbol(Symbol, u8),
    Letter(char),
    /// Covered by the wide letter before it.
    Covered,
}

/// The cells of a row.
pub(super) struct Row {
    cells: Vec<Cell>,
}

impl Row {
    pub(super) fn new(width: usize) -> Row {
        Row { cells: vec![Cell::Empty; width] }
    }

    /// Sets a symbol, unless a more important one is there.
    pub(super) fn set(&mut self, cell: usize, symbol: Symbol, rank: u8) {
        if let Some(cell) = self.cells.get_mut(cell)
            && !matches!(cell, Cell::Symbol(_, known) if *known > rank)
        {
            *cell = Cell::Symbol(symbol, rank);
        }
    }

    pub(super) fn fill(&mut self, range: Range<usize>, symbol: Symbol) {
        range.for_each(|cell| self.set(cell, symbol, 0));
    }

    /// Writes a label into the cells of a span, after its first, if it leaves a cell free at both ends.
    pub(super) fn label(&mut self, range: Range<usize>, label: &str) {
        let begin = match fits(&range, label) {
            Fit::Spaced => range.start + 1,
            Fit::Tight => range.start,
            Fit::No => return,
        };
        let mut cell = begin;
        for letter in label.chars() {
            self.cells[cell] = Cell::Letter(letter);
            for covered in 1..letter_width(letter) {
                self.cells[cell + covered] = Cell::Covered;
            }
            cell += letter_width(letter);
        }
    }

    /// The symbols in the row.
    pub(super) fn used(&self) -> impl Iterator<Item = Symbol> {
        self.cells.iter().filter_map(|cell| match cell {
            Cell::Symbol(symbol, _) => Some(*symbol),
            _ => None,
        })
    }

    pub(super) fn text(&self) -> String {
        let letters = self.cells.iter().filter_map(|cell| match cell {
            Cell::Empty => Some(' '),
            Cell::Symbol(Symbol(symbol, _), _) => Some(*symbol),
            Cell::Letter(letter) => Some(*letter),
            Cell::Covered => None,
        });
        letters.collect()
    }
}

/// How a label fits into cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    No,
    /// It takes all of the cells.
    Tight,
    /// A cell is free at each end.
    Spaced,
}

pub(super) fn fits(range: &Range<usize>, label: &str) -> Fit {
    match width(label) {
        0 => Fit::No,
        width if width + 2 <= range.len() => Fit::Spaced,
        width if width <= range.len() => Fit::Tight,
        _ => Fit::No,
    }
}
