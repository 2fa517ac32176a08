//! The program.

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main(processor::parser::worker_main)
}
