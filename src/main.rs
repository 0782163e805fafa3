//! Entry point of the server: environment variables configure it, a signal stops it (`specs/api/service.md`).

#![warn(clippy::unwrap_used)]

use std::error::Error;
use std::hint::black_box;
use std::io::{self, Write};
use std::process::ExitCode;

use log::warn;
use todo_backend::cli::{self, Command};
use todo_backend::config::{self, Config};
use todo_backend::ops::{check, healthcheck, log as logging};
use todo_backend::server;

/// Exit code after a wrong command line.
const USAGE_ERROR: u8 = 2;
/// Size of a block that is allocated and freed at the start, in bytes. From then on glibc keeps twice as much free
/// memory in each arena (`mallopt(3)`). Its default, 128 KiB, is less than a batch of lists needs anew each time.
const FREED_BLOCK_BYTES: usize = 262_144;

fn main() -> ExitCode {
    // Huge pages would multiply the allocator's memory. A kernel without huge pages refuses: no loss.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    drop(black_box(Vec::<u8>::with_capacity(FREED_BLOCK_BYTES)));
    let command = match Command::parse(std::env::args_os().skip(1)) {
        Ok(command) => command,
        Err(error) => return print_error(&error, USAGE_ERROR),
    };
    match run(command) {
        Ok(exit_code) => exit_code,
        Err(error) => print_error(&*error, 1),
    }
}

fn print_error(error: &dyn std::fmt::Display, exit_code: u8) -> ExitCode {
    // If standard error is closed, only the exit code reports the failure.
    let _ = writeln!(io::stderr(), "todo-backend: {error}");
    exit_code.into()
}

fn run(command: Command) -> Result<ExitCode, Box<dyn Error + Send + Sync>> {
    match command {
        Command::Serve => serve()?,
        Command::Check if check::run(&mut io::stdout())? => {}
        Command::Check => return Ok(ExitCode::FAILURE),
        Command::HealthCheck => healthcheck::check(&config::address_from_env()?.resolve()?)?,
        Command::Version => writeln!(io::stdout(), "todo-backend {}", env!("CARGO_PKG_VERSION"))?,
        Command::Help => write!(io::stdout(), "{}", cli::help())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn serve() -> Result<(), Box<dyn Error + Send + Sync>> {
    let config = Config::from_env()?;
    let _finish = logging::start(&config.log_filter, config.log_format)?;
    for warning in &config.warnings {
        warn!("{warning}");
    }
    server::run(config)
}
