//! `todo-backend`: configured by the environment (`specs/api/service.md`), serves until it is told to stop.

#![warn(clippy::unwrap_used)]

use std::error::Error;
use std::process::ExitCode;

use log::warn;
use todo_backend::config::Config;
use todo_backend::server;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("todo-backend: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error + Send + Sync>> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    let config = Config::from_env()?;
    for warning in &config.warnings {
        warn!("{warning}");
    }
    server::run(config)
}
