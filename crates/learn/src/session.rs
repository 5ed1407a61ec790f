//! `Session`: a reader and a lesson in a terminal, with questions and a prompt after each part.

use std::io::{self, BufRead, Write};

use crate::progress::{ProgressFile, State};
use crate::style::{self, STRONG, styled};
use crate::{Host, Lesson, Variant, text};

/// A conversation with one reader.
pub struct Session<'a, I, O> {
    /// All lessons, in order.
    pub lessons: &'static [Lesson],
    /// What runs their programs.
    pub host: &'a dyn Host,
    /// Where progress is kept.
    pub progress: &'a ProgressFile,
    /// What the reader types, in lines.
    pub input: I,
    /// What the reader sees. Escape sequences of colours are written; a terminal without colours needs
    /// a writer that removes them.
    pub output: O,
}

/// How a lesson was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    AtItsEnd,
    Skipped,
    Quit,
}

/// What the reader typed at a prompt.
enum Reply {
    Guess(usize),
    Enter,
    Skip,
    Quit,
}

impl<I: BufRead, O: Write> Session<'_, I, O> {
    /// Shows the list, and then the lessons that are not done, until the reader leaves.
    ///
    /// # Errors
    /// The input or output fails.
    pub fn run(&mut self) -> io::Result<()> {
        let (progress, warning) = self.progress.read();
        if let Some(warning) = warning {
            self.say(&text::paragraph(&warning))?;
        }
        self.say(&text::list(self.lessons, &progress))?;
        match text::next(self.lessons, &progress) {
            None => self.say(&text::all_done()),
            Some(index) => {
                let number = index + 1;
                let prompt = format!("Enter: lesson {number}; q: leave");
                match self.ask(&prompt, "q")? {
                    Reply::Quit => Ok(()),
                    _ => self.from(index),
                }
            }
        }
    }

    /// Shows a lesson, and then the next ones that are not done, until the reader leaves.
    ///
    /// # Errors
    /// The input or output fails.
    pub fn from(&mut self, first: usize) -> io::Result<()> {
        let mut index = first;
        loop {
            let state = match self.lesson(index)? {
                Left::Quit => return Ok(()),
                Left::Skipped => State::Skipped,
                Left::AtItsEnd => State::Done,
            };
            let name = self.lessons[index].name;
            self.keep(|progress| progress.set(name, state))?;
            let (progress, _) = self.progress.read();
            let after = (index + 1..self.lessons.len())
                .find(|&it| !text::is_done(&progress, &self.lessons[it]));
            let Some(next) = after.or_else(|| text::next(self.lessons, &progress)) else {
                return self.say(&text::all_done());
            };
            if next <= index {
                self.say(&text::list(self.lessons, &progress))?;
                self.say("The lessons above without a mark are not done yet.\n")?;
            }
            let title = self.lessons[next].title;
            let prompt = format!("Enter: lesson {}, {title}; q: leave", next + 1);
            if matches!(self.ask(&prompt, "q")?, Reply::Quit) {
                return Ok(());
            }
            index = next;
        }
    }

    /// The fast track: only the programs and their questions. A lesson whose question is guessed right
    /// counts as done.
    ///
    /// # Errors
    /// The input or output fails.
    pub fn fast(&mut self) -> io::Result<()> {
        let (progress, _) = self.progress.read();
        let mut right = 0;
        let mut asked = 0;
        for (index, lesson) in self.lessons.iter().enumerate() {
            if text::is_done(&progress, lesson) {
                continue;
            }
            self.headline(index)?;
            self.part("The program", &style::listing(&text::program(lesson)))?;
            match self.question(lesson)? {
                Reply::Quit => break,
                Reply::Guess(guess) => {
                    asked += 1;
                    if guess == lesson.question.right {
                        right += 1;
                        self.keep(|progress| progress.set(lesson.name, State::Done))?;
                    }
                }
                Reply::Enter | Reply::Skip => {}
            }
        }
        self.say(&format!("\n{right} of {asked} guesses were right.\n"))?;
        let (progress, _) = self.progress.read();
        match text::next(self.lessons, &progress) {
            None => self.say(&text::all_done()),
            Some(_) => self.say("`echown learn` continues with the lessons that are not done.\n"),
        }
    }

    fn lesson(&mut self, index: usize) -> io::Result<Left> {
        let lesson = &self.lessons[index];
        self.headline(index)?;
        self.say(&text::story(lesson))?;
        match self.ask("Enter: the program; s: skip the lesson; q: leave", "sq")? {
            Reply::Quit => return Ok(Left::Quit),
            Reply::Skip => return Ok(Left::Skipped),
            _ => {}
        }
        self.part("The program", &style::listing(&text::program(lesson)))?;
        match self.question(lesson)? {
            Reply::Quit => return Ok(Left::Quit),
            Reply::Skip => return Ok(Left::Skipped),
            _ => {}
        }
        if self.is_left("Enter: run the program; q: leave")? {
            return Ok(Left::Quit);
        }
        self.run_of(lesson, Variant::Broken)?;
        if self.is_left("Enter: the fix; q: leave")? {
            return Ok(Left::Quit);
        }
        self.part("The fixed program", &style::listing(&text::fix(lesson)))?;
        if self.is_left("Enter: run it; q: leave")? {
            return Ok(Left::Quit);
        }
        self.run_of(lesson, Variant::Fixed)?;
        if self.is_left("Enter: why; q: leave")? {
            return Ok(Left::Quit);
        }
        self.part("Why", &text::why(lesson))?;
        Ok(Left::AtItsEnd)
    }

    fn headline(&mut self, index: usize) -> io::Result<()> {
        let headline = text::headline(index + 1, &self.lessons[index]);
        self.say(&format!("\n{}\n", styled(STRONG, headline.trim_end())))
    }

    /// Asks the question, and explains the guess and the right choice.
    fn question(&mut self, lesson: &Lesson) -> io::Result<Reply> {
        self.say(&format!("\n{}", text::question(&lesson.question)))?;
        let prompt = "Your guess (a, b, c, d); Enter: no guess; s: skip the lesson; q: leave";
        let reply = self.ask(prompt, "abcdsq")?;
        let right = lesson.question.right;
        match reply {
            Reply::Guess(guess) => {
                self.keep(|progress| progress.guess(lesson.name, guess == right))?;
                self.say("\n")?;
                if guess != right {
                    self.say(&text::explanation(&lesson.question, guess))?;
                }
                self.say(&text::explanation(&lesson.question, right))?;
            }
            Reply::Enter => {
                self.say("\n")?;
                self.say(&text::explanation(&lesson.question, right))?;
            }
            Reply::Skip | Reply::Quit => {}
        }
        Ok(reply)
    }

    fn run_of(&mut self, lesson: &'static Lesson, variant: Variant) -> io::Result<()> {
        let title = match variant {
            Variant::Broken => "The run",
            Variant::Fixed => "The run of the fixed program",
        };
        let run = match self.host.run(lesson, variant) {
            Ok(run) => style::report(&text::run(&run)),
            Err(error) => format!("The program could not be run: {error}\n"),
        };
        self.part(title, &run)?;
        if let Some(recorded) = text::recorded(lesson).filter(|_| variant == Variant::Broken) {
            self.say(&format!("\n{}", style::report(&recorded)))?;
        }
        Ok(())
    }

    fn part(&mut self, title: &str, text: &str) -> io::Result<()> {
        self.say(&format!("\n{}\n\n{text}", styled(STRONG, title)))
    }

    fn is_left(&mut self, prompt: &str) -> io::Result<bool> {
        Ok(matches!(self.ask(prompt, "q")?, Reply::Quit))
    }

    /// Prompts until the reader types Enter or one of these letters. The end of the input is `q`.
    fn ask(&mut self, prompt: &str, letters: &str) -> io::Result<Reply> {
        loop {
            self.say(&format!("\n[{prompt}] "))?;
            let mut line = String::new();
            if self.input.read_line(&mut line)? == 0 {
                self.say("\n")?;
                return Ok(Reply::Quit);
            }
            let mut typed = line.trim().chars().map(|letter| letter.to_ascii_lowercase());
            match (typed.next(), typed.next()) {
                (None, _) => return Ok(Reply::Enter),
                (Some(letter), None) if letters.contains(letter) => {
                    return Ok(match letter {
                        'q' => Reply::Quit,
                        's' => Reply::Skip,
                        _ => Reply::Guess(
                            text::LETTERS.iter().position(|it| *it == letter).unwrap_or_default(),
                        ),
                    });
                }
                _ => {}
            }
        }
    }

    fn keep(&mut self, change: impl FnOnce(&mut crate::Progress)) -> io::Result<()> {
        match self.progress.change(change) {
            Ok(()) => Ok(()),
            Err(message) => self.say(&text::paragraph(&message)),
        }
    }

    fn say(&mut self, text: &str) -> io::Result<()> {
        self.output.write_all(text.as_bytes())?;
        self.output.flush()
    }
}

#[cfg(test)]
mod tests;
