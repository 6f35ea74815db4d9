//! What goes with the program: the schema for editors, completions for shells, the manual page.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Arg, Command, CommandFactory};
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
    let mut written = main
        .render_title(&mut page)
        .and_then(|()| main.render_name_section(&mut page))
        .and_then(|()| put_synopsis(&mut page, "onedoor", &command))
        .and_then(|()| main.render_description_section(&mut page))
        .and_then(|()| main.render_options_section(&mut page))
        .and_then(|()| main.render_subcommands_section(&mut page))
        .and_then(|()| main.render_extra_section(&mut page))
        .and_then(|()| main.render_version_section(&mut page));
    for subcommand in command.get_subcommands() {
        let name = format!("onedoor {}", subcommand.get_name());
        let section = clap_mangen::Man::new(subcommand.clone());
        let title = format!(".SH \"{}\"\n", name.to_uppercase());
        page.extend_from_slice(title.as_bytes());
        written = written
            .and_then(|()| section.render_description_section(&mut page))
            .and_then(|()| put_synopsis(&mut page, &name, subcommand))
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

/// With the values of options, which the crate leaves out.
fn put_synopsis(page: &mut Vec<u8>, name: &str, command: &Command) -> io::Result<()> {
    let mut words = vec![bold(name)];
    for option in command
        .get_opts()
        .chain(command.get_arguments().filter(is_switch))
    {
        if !option.is_hide_set() {
            words.push(optional(option, &option_words(option)));
        }
    }
    for value in command.get_positionals() {
        words.push(optional(value, &values(value)));
    }
    if command.has_subcommands() {
        words.push(format!("[{}]", italic("COMMAND")));
    }
    writeln!(page, ".SH SYNOPSIS\n{}", words.join(" "))
}

fn is_switch(argument: &&Arg) -> bool {
    !argument.is_positional() && !argument.get_action().takes_values()
}

fn option_words(option: &Arg) -> String {
    let long = option.get_long().map(|long| format!("--{long}"));
    let name = long.or_else(|| option.get_short().map(|short| format!("-{short}")));
    let name = bold(&name.unwrap_or_default());
    match option.get_action().takes_values() {
        true => format!("{name} {}", values(option)),
        false => name,
    }
}

fn values(argument: &Arg) -> String {
    let names = argument.get_value_names().unwrap_or_default();
    let names: Vec<String> = names.iter().map(|name| italic(name)).collect();
    let several = argument
        .get_num_args()
        .is_some_and(|count| count.max_values() > 1);
    match several {
        true => format!("{}...", names.join(" ")),
        false => names.join(" "),
    }
}

fn optional(argument: &Arg, words: &str) -> String {
    match argument.is_required_set() {
        true => words.to_owned(),
        false => format!("[{words}]"),
    }
}

fn bold(words: &str) -> String {
    format!("\\fB{}\\fR", words.replace('-', "\\-"))
}

fn italic(words: &str) -> String {
    format!("\\fI{words}\\fR")
}
