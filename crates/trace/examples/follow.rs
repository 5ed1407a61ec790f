//! Runs a command and prints the events of its descriptors.
//!
//! ```console
//! cargo run -p echown-trace --example follow -- [--quarantine] [--check-uses] COMMAND [ARGUMENTS...]
//! ```

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn main() {
    use echown_trace::event::Event;
    use echown_trace::model::Model;
    use echown_trace::stack::Stacks;
    use echown_trace::tracer::{self, Command, Observer, Settings};

    struct Printer;

    impl Observer for Printer {
        fn event(&mut self, event: &Event, _: &Model, _: &Stacks) {
            eprintln!("{:>9} us  {}: {:?}", event.time_ns / 1000, event.task.0, event.what);
        }
    }

    let mut settings = Settings::default();
    let mut arguments = std::env::args_os().skip(1).peekable();
    let mut is_quiet = false;
    while let Some(option) = arguments.next_if(|it| it.to_string_lossy().starts_with("--")) {
        match &*option.to_string_lossy() {
            "--quarantine" => settings.quarantine = true,
            "--check-uses" => settings.check_uses = true,
            "--no-stacks" => settings.stacks = false,
            "--no-placement" => settings.placement = false,
            "--quiet" => is_quiet = true,
            _ => panic!("unknown option {}", option.display()),
        }
    }
    let program = arguments.next().expect("a command");
    let command = Command { program, arguments: arguments.collect() };
    let observer: &mut dyn Observer = if is_quiet { &mut () } else { &mut Printer };
    match tracer::run(&command, &settings, observer) {
        Ok(trace) => eprintln!("status {:#x}; {:?}", trace.status, trace.model.coverage()),
        Err(error) => eprintln!("failed to run {}: {error}", command.program.display()),
    }
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn main() {}
