//! Arguments in, exit code out.

use std::process::ExitCode;

/// Half of a batch's time on our side is allocation; and what a large transaction took goes back when it is over.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    plait::cli::main()
}
