//! The exit code.

fn main() -> std::process::ExitCode {
    onedoor::cli::main()
}
