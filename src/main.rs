//! The `poolwright` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    poolwright::cli::main()
}
