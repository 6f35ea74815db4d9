//! What goes with the program: the schema for editors, completions for shells, the manual page.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use super::args::{Args, SchemaFile};
use super::{FAILED, complain, print};
use crate::document::keys::schema::{self, File};

pub(super) fn schema(file: SchemaFile) -> ExitCode {
    let file = match file {
        SchemaFile::Site => File::Site,
        SchemaFile::Daemon => File::Daemon,
    };
    print(&format!("{:#}\n", schema::schema(file)));
    ExitCode::SUCCESS
}

pub(super) fn completions(shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "onedoor", &mut script);
    print(&String::from_utf8_lossy(&script));
    ExitCode::SUCCESS
}

/// One page with every command: who reads it looks for a word.
pub(super) fn man() -> ExitCode {
    let mut command = Args::command();
    // Gives the subcommands their usage.
    command.build();
    let mut page = Vec::new();
    let main = clap_mangen::Man::new(command.clone());
    let mut written = main.render(&mut page);
    for subcommand in command.get_subcommands() {
        let name = format!("onedoor {}", subcommand.get_name());
        let section = clap_mangen::Man::new(subcommand.clone());
        let title = format!(".SH \"{}\"\n", name.to_uppercase());
        page.extend_from_slice(title.as_bytes());
        written = written
            .and_then(|()| section.render_description_section(&mut page))
            .and_then(|()| section.render_synopsis_section(&mut page))
            .and_then(|()| section.render_options_section(&mut page));
    }
    match written {
        Ok(()) => print(&String::from_utf8_lossy(&page)),
        Err(error) => {
            complain(error);
            return ExitCode::from(FAILED);
        }
    }
    ExitCode::SUCCESS
}
