//! `crashferry`, all of it, with parser processes that obey a dump's word. Scenarios run it where a dump has to be hostile.

use std::process::ExitCode;

#[path = "../../../processor/tests/hooks/mod.rs"]
mod hooks;

fn main() -> ExitCode {
    cli::main(|| processor::parser::serve(hooks::obey_or_parse))
}
