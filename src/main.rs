//! `todo-backend`: configured by the environment (`specs/api/service.md`), serves until it is told to stop.

#![warn(clippy::unwrap_used)]

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use log::warn;
use mimalloc::MiMalloc;
use todo_backend::cli::{self, Command};
use todo_backend::config::{self, Config};
use todo_backend::ops::{check, healthcheck, log as logging};
use todo_backend::server;

/// Why not the C library's: `specs/performance.md`, "Memory".
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The exit code of a wrong command line.
const MISUSED: u8 = 2;

fn main() -> ExitCode {
    // Where the system gives pages of 2 MiB unasked, the allocator's would be four times the memory. A kernel without them need not know.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let command = match Command::parse(std::env::args_os().skip(1)) {
        Ok(command) => command,
        Err(misuse) => return complain(&misuse, MISUSED),
    };
    match run(command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => complain(&*error, 1),
    }
}

/// Whoever should read this may be gone, and then nobody is told.
fn complain(error: &dyn std::fmt::Display, exit_code: u8) -> ExitCode {
    let _ = writeln!(io::stderr(), "todo-backend: {error}");
    exit_code.into()
}

/// Whether all went well; where not, that was said already.
fn run(command: Command) -> Result<bool, Box<dyn Error + Send + Sync>> {
    match command {
        Command::Serve => serve()?,
        Command::Check => return Ok(check::run(&mut io::stdout())?),
        Command::HealthCheck => {
            let (host, port) = config::address_from_env()?;
            healthcheck::ask(&host, port)?;
        }
        Command::Version => writeln!(io::stdout(), "todo-backend {}", env!("CARGO_PKG_VERSION"))?,
        Command::Help => write!(io::stdout(), "{}", cli::help())?,
    }
    Ok(true)
}

fn serve() -> Result<(), Box<dyn Error + Send + Sync>> {
    let config = Config::from_env()?;
    logging::start(&config.log_filter, config.log_format)?;
    for warning in &config.warnings {
        warn!("{warning}");
    }
    let served = server::run(config);
    logging::finish();
    served
}
