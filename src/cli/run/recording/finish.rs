//! The second writing of a recording: what is known only at the end.

use std::io::{self, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use echown_report::StackFrame;
use echown_trace::event::{OpenFd, Tid};
use echown_trace::stack::StackId;
use rustc_hash::FxHashMap;

use super::encoder::Encoder;
use super::places::Named;
use super::{END_BYTES, Recorder};
use crate::cli::run::noted::Noted;
use crate::events::reader::{ReadError, Reader};
use crate::events::{Kind, Line};
use crate::net::File;
use crate::report::atomic_file::AtomicFile;

/// The kind and the addresses of sockets that were open when their process ended, by resource.
#[derive(Debug, Default)]
pub(super) struct Ends(FxHashMap<u64, End>);

#[derive(Debug)]
struct End {
    kind: &'static str,
    local: Option<String>,
    peer: Option<String>,
}

impl Ends {
    /// Remembers what `/proc` says about the descriptors of a process that is about to end.
    pub(super) fn add(&mut self, encoder: &Encoder, task: Tid, open: &[OpenFd]) {
        for fd in open {
            if let Some(details) = &fd.details
                && let Some(resource) = encoder.resource(task, fd.number)
            {
                let (local, peer) = (details.local.clone(), details.peer.clone());
                self.0.insert(resource, End { kind: details.kind, local, peer });
            }
        }
    }
}

impl Recorder {
    /// Reads the recording and replaces it.
    pub(super) fn rewrite(
        &mut self,
        mut findings: Vec<Noted>,
        resolve: &mut dyn FnMut(StackId) -> Vec<StackFrame>,
        end: &Line,
    ) -> io::Result<()> {
        findings.sort_by_key(|finding| finding.time_ns);
        let mut findings = findings.into_iter().peekable();
        let mut input = Reader::new(BufReader::new(File::open(&self.path)?));
        AtomicFile::at(&self.path).replace(|path| {
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create_new(true).mode(0o600);
            let mut output = Output {
                file: BufWriter::with_capacity(1 << 16, File::open_with(path, &options)?),
                left: self.limit.saturating_sub(self.bytes + END_BYTES),
            };
            let mut current = FxHashMap::default();
            let stacks = std::mem::take(&mut self.stacks);
            for stack in stacks {
                let Some(mut line) = input.next_line().map_err(in_io)? else { break };
                while let Some(found) =
                    findings.next_if(|it| it.time_ns.saturating_add(999) < line.time_ns)
                {
                    output.write(&self.finding(found, &current))?;
                }
                if let (Some(process), Some(number)) = (line.process, line.number) {
                    current.insert((process, number), line.resource.unwrap_or_default());
                }
                let raw_bytes = input.text().len();
                self.complete(&mut line);
                let named = self.places.named(stack, resolve);
                output.write_named(line, named, raw_bytes)?;
            }
            for found in findings {
                output.write(&self.finding(found, &current))?;
            }
            output.file.write_all((end.to_json() + "\n").as_bytes())?;
            output.file.flush()
        })
    }

    /// Adds what was not known when the line was written.
    fn complete(&self, line: &mut Line) {
        let names = [&mut line.from, &mut line.to, &mut line.task, &mut line.parent];
        for task in names.into_iter().flatten() {
            if let Some(name) = self.encoder.names().get(&task.id) {
                task.name = Arc::clone(name);
            }
        }
        if line.event == Kind::Acquired
            && let Some(end) = line.resource.and_then(|resource| self.ends.0.get(&resource))
        {
            line.kind = Some(end.kind.into());
            (line.local, line.peer) = (end.local.clone(), end.peer.clone());
        }
    }

    fn finding(&self, found: Noted, current: &FxHashMap<(u32, i32), u64>) -> Line {
        let process = u32::try_from(found.process).unwrap_or_default();
        let time_ns = found.time_ns.min(self.last_ns);
        let resource = |number: &i32| current.get(&(process, *number)).copied();
        Line {
            process: Some(process),
            code: Some(found.code.into()),
            message: Some(found.message),
            text: Some(found.text),
            task: self.encoder.last_of(Tid(found.process)),
            resources: Some(found.numbers.iter().filter_map(resource).collect()),
            ..Line::new(if found.is_leak { Kind::Leaked } else { Kind::Violation }, time_ns)
        }
    }
}

/// The new file.
struct Output {
    file: BufWriter<File>,
    /// How many bytes it may have more than the old one.
    left: usize,
}

impl Output {
    fn write(&mut self, line: &Line) -> io::Result<()> {
        let json = line.to_json() + "\n";
        // A recording at its limit has no room for findings; the report has them.
        let Some(left) = self.left.checked_sub(json.len()) else { return Ok(()) };
        self.left = left;
        self.file.write_all(json.as_bytes())
    }

    /// Writes a line with as much of its place as there is room for.
    fn write_named(&mut self, mut line: Line, named: Named, raw_bytes: usize) -> io::Result<()> {
        let raw = line.to_json() + "\n";
        line.site = named.site.or(line.site);
        let without_stack = line.to_json() + "\n";
        line.stack = named.stack;
        for json in [line.to_json() + "\n", without_stack] {
            if let Some(left) = (self.left + raw_bytes).checked_sub(json.len()) {
                self.left = left;
                return self.file.write_all(json.as_bytes());
            }
        }
        self.left = (self.left + raw_bytes).saturating_sub(raw.len());
        self.file.write_all(raw.as_bytes())
    }
}

fn in_io(error: ReadError) -> io::Error {
    match error {
        ReadError::Io(error) => error,
        error => io::Error::other(error),
    }
}
