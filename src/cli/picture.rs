//! `echown picture`: a recording as a picture.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use echown_fd::escape;

use super::output::documents;
use super::{EXIT_FAILURE, EXIT_USAGE, exit_code_of_print, fail, units};
use crate::events::reader::{ReadError, Reader};
use crate::events::timeline::{Builder, Selection, Timeline};
use crate::events::{mermaid, svg, text};
use crate::report::atomic_file::AtomicFile;

/// The maximum number of names in an error message.
const NAMES_MAX: usize = 8;

/// Draw a recording: who owned which descriptor when, and how each was handed over and closed.
///
/// A recording is written by `echown serve --record FILE` or `echown run --record FILE`. The picture has one lane per descriptor number:
/// solid in the owner's colour, dashed while offered, a mark at each hand-over, a cross where it was
/// closed, and red for findings.
#[derive(Args)]
pub(super) struct PictureArguments {
    /// The recording; `-` is standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// The picture: a new file, or an existing one, which is replaced as a whole; `-` is standard output.
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    output: PathBuf,

    /// Format of the picture. [default: by the ending of the output's name (.svg, .mmd, .txt); `text` on
    /// standard output]
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,

    /// What the horizontal axis of an SVG shows. Text and diagrams show the order.
    #[arg(long, value_name = "AXIS", default_value = "time")]
    axis: Axis,

    /// Draw only what a task with this text in its name owned. Can be repeated.
    #[arg(long, value_name = "NAME")]
    task: Vec<String>,

    /// Draw only the resource with this number, which reports and tooltips name, and its halves. Can be
    /// repeated.
    #[arg(long, value_name = "NUMBER", value_parser = units::number::<u64>)]
    resource: Vec<u64>,

    /// Draw what happened from here on, as a time since the beginning of the recording: `1s`, `250ms`.
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    from: Option<Duration>,

    /// Draw what happened until here.
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    to: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A self-contained picture for browsers and documents.
    Svg,
    /// A Mermaid sequence diagram: tasks and what they hand to each other.
    Mermaid,
    /// Text of 80 columns.
    Text,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Axis {
    /// Time since the beginning.
    Time,
    /// One column per event, the same for every run of a deterministic program.
    Order,
}

impl From<Axis> for svg::Axis {
    fn from(axis: Axis) -> svg::Axis {
        match axis {
            Axis::Time => svg::Axis::Time,
            Axis::Order => svg::Axis::Order,
        }
    }
}

pub(super) fn run(arguments: &PictureArguments) -> ExitCode {
    let format = match format(arguments) {
        Ok(format) => format,
        Err(message) => return fail(message, EXIT_USAGE),
    };
    if let (Some(from), Some(to)) = (arguments.from, arguments.to)
        && from >= to
    {
        return fail("--from must be earlier than --to", EXIT_USAGE);
    }
    let files = [("FILE", Some(&*arguments.file)), ("--output", Some(&*arguments.output))];
    if let Err(message) = documents::distinct(files) {
        return fail(message, EXIT_USAGE);
    }
    let timeline = match timeline(arguments) {
        Ok(timeline) => timeline,
        Err(message) => return fail(message, EXIT_FAILURE),
    };
    let picture = match format {
        Format::Svg => {
            let axis = arguments.axis.into();
            svg::render(&timeline, &svg::Options { axis, ..svg::Options::default() })
        }
        Format::Mermaid => mermaid::render(&timeline),
        Format::Text => text::render(&timeline, &text::Options::default()),
    };
    if is_stream(&arguments.output) {
        let mut output = io::stdout().lock();
        return exit_code_of_print(
            output.write_all(picture.as_bytes()).and_then(|()| output.flush()),
        );
    }
    let file = AtomicFile::at(&arguments.output);
    match file.attempt().and_then(|()| file.replace(|path| fs::write(path, &picture))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let path = escape::path(&arguments.output);
            fail(format_args!("failed to write the picture to {path}: {error}"), EXIT_FAILURE)
        }
    }
}

fn is_stream(path: &Path) -> bool {
    path == Path::new("-")
}

fn format(arguments: &PictureArguments) -> Result<Format, String> {
    if let Some(format) = arguments.format {
        return Ok(format);
    }
    if is_stream(&arguments.output) {
        return Ok(Format::Text);
    }
    match arguments.output.extension().and_then(|it| it.to_str()) {
        Some("svg") => Ok(Format::Svg),
        Some("mmd" | "mermaid") => Ok(Format::Mermaid),
        Some("txt") => Ok(Format::Text),
        _ => Err(format!(
            "the ending of {} names no format: use .svg, .mmd or .txt, or add --format",
            escape::path(&arguments.output)
        )),
    }
}

/// Reads the recording and selects what to draw.
fn timeline(arguments: &PictureArguments) -> Result<Timeline, String> {
    let timeline = if is_stream(&arguments.file) {
        read(BufReader::new(io::stdin()), "standard input")
    } else {
        let name = escape::path(&arguments.file);
        match File::open(&arguments.file) {
            Ok(file) => read(BufReader::new(file), &name),
            Err(error) => Err(format!("failed to open the recording {name}: {error}")),
        }
    }?;
    if timeline.lanes.is_empty() {
        return Err("nothing to draw: the recording has no step of any descriptor".to_owned());
    }
    let tasks: Vec<_> = timeline
        .tasks_drawn()
        .into_iter()
        .map(|it| format!("`{}`", timeline.tasks[it].name))
        .collect();
    let nanoseconds = |time: Option<Duration>| {
        time.map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
    };
    let seconds = Duration::from_nanos(timeline.end.time_ns).as_secs_f64();
    let selected = timeline.select(&Selection {
        tasks: arguments.task.clone(),
        resources: arguments.resource.clone(),
        from_ns: nanoseconds(arguments.from),
        to_ns: nanoseconds(arguments.to),
    });
    if selected.lanes.is_empty() {
        let more = if tasks.len() > NAMES_MAX { ", ..." } else { "" };
        let tasks = tasks.into_iter().take(NAMES_MAX).collect::<Vec<_>>().join(", ");
        return Err(format!(
            "nothing to draw: no descriptor matches --task, --resource, --from and --to. The recording \
             takes {seconds:.3} s; the owners in it are {tasks}{more}"
        ));
    }
    Ok(selected)
}

fn read(input: impl BufRead, name: &str) -> Result<Timeline, String> {
    let mut reader = Reader::new(input);
    let mut builder = Builder::default();
    loop {
        match reader.next_line() {
            Ok(Some(line)) => builder.add(&line),
            Ok(None) => return Ok(builder.finish()),
            Err(error) => {
                let advice = match &error {
                    ReadError::NotARecording => {
                        ". `echown serve --record FILE` writes one".to_owned()
                    }
                    ReadError::Damaged(number, _) => {
                        format!(". `head -n {}` keeps what comes before", number - 1)
                    }
                    _ => String::new(),
                };
                return Err(units::escaped(format_args!(
                    "failed to read the recording {name}: {error}{advice}"
                )));
            }
        }
    }
}
