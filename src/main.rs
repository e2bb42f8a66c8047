//! Arguments in, exit code out.

use std::process::ExitCode;

/// What a large transaction took goes back to the system when it is over; and a fifth of the time on our side is allocation.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    plait::cli::main()
}
