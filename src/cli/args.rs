//! What a person types -> [`Args`]. Also every word of `--help`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::document::problem::printable;
use crate::document::units;

const EXAMPLES: &str = "\
Try it:
  onedoor demo                                    two small apps behind one port, to play with
  onedoor --listen 0.0.0.0:80                     serve ./sites.d
  printf 'host = \"shop.localhost\"\\nto = 5000\\n' > sites.d/shop.toml
                                                  one more site, live a moment later
  onedoor wait shop && curl http://shop.localhost:8080/

Exit codes: 0 fine, 1 the configuration or the operation failed, 2 usage;
of wait also 3 for not in time and 4 for no daemon.
Each flag is also a variable: --listen is ONEDOOR_LISTEN.
A daemon reads everything again on SIGHUP; SIGTERM and SIGINT let open work finish and end it.";

/// One process owns one port; many apps live behind it, told apart by name. An app is registered by dropping a small
/// TOML file into sites.d: it is live a moment later, nothing is restarted, and nobody else notices.
#[derive(Debug, Parser)]
#[command(name = "onedoor", version, about, long_about = None, after_help = EXAMPLES, max_term_width = 100)]
#[command(
    disable_help_subcommand = true,
    subcommand_help_heading = "Commands (without one: run)"
)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    #[command(flatten)]
    pub(super) places: Places,
    #[command(flatten)]
    pub(super) serving: Serving,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Bind, load the sites, serve until told to stop
    Run {
        #[command(flatten)]
        serving: Serving,
    },
    /// The same on example sites, with small built-in apps behind them
    Demo {
        #[command(flatten)]
        serving: Serving,
    },
    /// Read site files and show every error at its place; changes nothing
    #[command(visible_aliases = ["validate", "test"])]
    Check {
        /// Site files or folders of them; - for standard input [default: the sites directory]
        #[arg(value_name = "PATH")]
        paths: Vec<PathBuf>,
        /// Read the one PATH as if it were the file NAME.toml of the sites directory
        #[arg(long = "as", value_name = "NAME", requires = "paths")]
        name: Option<String>,
        /// Warnings are errors
        #[arg(long)]
        strict: bool,
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// List what is live, and what is not and why
    #[command(visible_alias = "status")]
    Ls {
        /// Only sites with this in their name or in one of their hosts; * stands for anything
        pattern: Option<String>,
        /// Only what is wrong, as `check` draws it; exit code 1 when something is
        #[arg(long)]
        errors: bool,
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Return when what is on disk now is serving (exit code 0) or rejected (1)
    Wait {
        /// One site [default: all of them]
        name: Option<String>,
        /// Give up after this long, with exit code 3
        #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
        timeout: Duration,
        /// Wait until NAME is served no more
        #[arg(long, requires = "name")]
        gone: bool,
        /// Wait until no request is left on backends that NAME's file does not name any more
        #[arg(long, requires = "name", conflicts_with = "gone")]
        drained: bool,
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Say which site, path and app would answer a request, which lost, and why
    Explain {
        #[command(flatten)]
        question: Asked,
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Read the daemon file and every site file again, wait until that is in force, print what changed
    Reload {
        /// Believe a directory that lost most of its files, and folders of certificates that lost all
        #[arg(long)]
        accept_removals: bool,
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Show what moves now: requests, errors, times, connections of each site; q ends it
    Top {
        /// One screen after a second, and no keys
        #[arg(long)]
        once: bool,
        /// For programs: a line for each second, until its reader has gone
        #[arg(long)]
        json: bool,
    },
    /// Write a site file, and wait until it serves
    Add {
        /// Who may ask: shop.example.com
        host: String,
        /// Where it goes: 5000, 10.0.0.7:5000, unix:/run/shop.sock; of several the one with less to do is asked
        #[arg(required = true)]
        to: Vec<String>,
        /// The name of the site, and of its file [default: the host]
        #[arg(long)]
        name: Option<String>,
        /// Your own words, shown by ls
        #[arg(long)]
        note: Option<String>,
        /// How long to wait until it serves
        #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
        timeout: Duration,
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Remove a site file, and wait until its site is served no more; what was never live is kept beside, as NAME.toml.off
    Rm {
        name: String,
        /// Cut open work, too
        #[arg(long)]
        now: bool,
        /// How long to wait until it is served no more
        #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
        timeout: Duration,
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// List the versions of a site that went live
    History {
        name: String,
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Show what changed: on disk since it went live, or else in the last version
    Diff {
        name: String,
        /// Of which version of the history, 1 being the newest
        #[arg(long, value_name = "N")]
        version: Option<usize>,
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Write a former version of a site back into its file, and wait until it serves
    ///
    /// What is written becomes the newest version, so that a second rollback undoes the first. `onedoor history` has the
    /// numbers of those that are older.
    Rollback {
        name: String,
        /// Which version of the history [default: the newest that is not the present one]
        #[arg(long, value_name = "N")]
        version: Option<usize>,
        /// How long to wait until it serves
        #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
        timeout: Duration,
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Let open work finish and then end the daemon, as SIGTERM does
    Drain {
        /// Return when it has ended; exit code 3 when open work had to be cut
        #[arg(long)]
        wait: bool,
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON schema of a site file, for editors
    Schema {
        /// Of which file
        #[arg(value_enum, default_value = "site")]
        file: SchemaFile,
    },
    /// Print a script that lets a shell complete these commands
    Completions { shell: Shell },
    /// Print the manual page
    Man,
    /// Make this machine trust the certificates that onedoor makes for local names
    Trust {
        /// Take it back
        #[arg(long, conflicts_with = "print")]
        remove: bool,
        /// Write the certificate of the local authority in PEM, and do nothing else
        #[arg(long)]
        print: bool,
        /// For programs
        #[arg(long)]
        json: bool,
    },
}

/// A file that has a schema.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum SchemaFile {
    /// A file of sites.d
    Site,
    /// onedoor.toml
    Daemon,
}

/// The request that is to be explained.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Asked {
    /// As it is typed into a browser or given to curl
    pub(super) url: String,
    /// Of the request
    #[arg(long, short = 'X', value_name = "METHOD", default_value = "GET")]
    pub(super) method: String,
    /// One more header, "Name: value"; may be given several times
    #[arg(long, short = 'H', value_name = "HEADER", value_parser = header)]
    pub(super) header: Vec<(String, String)>,
    /// Who asks
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub(super) client: IpAddr,
    /// Read the files as a start would, even if a daemon runs
    #[arg(long)]
    pub(super) offline: bool,
}

/// Where the daemon's things are; for every command.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Where things are")]
pub(super) struct Places {
    /// The daemon file [default: ./onedoor.toml if it is there]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "ONEDOOR_CONFIG",
        hide_env = true
    )]
    pub(super) config: Option<PathBuf>,
    /// The folder of site files [default: ./sites.d]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "ONEDOOR_SITES",
        hide_env = true
    )]
    pub(super) sites: Option<PathBuf>,
    /// Where last good versions are kept [default: $STATE_DIRECTORY, else a folder of its own in your home]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "ONEDOOR_STATE",
        hide_env = true
    )]
    pub(super) state: Option<PathBuf>,
    /// The socket to ask the daemon through [default: admin.sock in the state directory]
    #[arg(
        long,
        global = true,
        value_name = "SOCKET",
        env = "ONEDOOR_ADMIN",
        hide_env = true
    )]
    pub(super) admin: Option<PathBuf>,
}

impl Places {
    /// What was named, for a line that somebody copies: each flag with a space before it.
    pub(super) fn flags(&self) -> String {
        let named = [
            ("--config", &self.config),
            ("--sites", &self.sites),
            ("--state", &self.state),
            ("--admin", &self.admin),
        ];
        let named = named
            .into_iter()
            .filter_map(|(flag, path)| Some((flag, path.as_ref()?)));
        named
            .map(|(flag, path)| format!(" {flag} {}", for_a_shell(path)))
            .collect()
    }

    /// Nothing was named: neither by a flag nor by a variable.
    pub(super) fn is_silent(&self) -> bool {
        self.flags().is_empty()
    }
}

/// A path as one word of a line for a shell.
fn for_a_shell(path: &Path) -> String {
    let path = path.to_string_lossy();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+,:@".contains(&byte);
    match path.bytes().all(is_plain) && !path.is_empty() {
        true => path.into_owned(),
        false => format!("'{}'", printable(&path.replace('\'', "'\\''"))),
    }
}

/// How it serves; each beats the same key of the daemon file.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "How it serves")]
pub(super) struct Serving {
    /// Where to listen; may be given several times, port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "ONEDOOR_LISTEN",
        value_delimiter = ',',
        hide_env = true
    )]
    pub(super) listen: Vec<String>,
    /// A loopback address for the page and /metrics [default: none]
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "ONEDOOR_ADMIN_LISTEN",
        hide_env = true
    )]
    pub(super) admin_listen: Option<String>,
    /// Threads that serve connections [default: one per core]
    #[arg(long, value_name = "N", env = "ONEDOOR_WORKERS", hide_env = true)]
    pub(super) workers: Option<usize>,
    /// How changes of site files are noticed: auto, events, or "poll 2s" [default: auto]
    #[arg(long, value_name = "HOW", env = "ONEDOOR_WATCH", hide_env = true)]
    pub(super) watch: Option<String>,
    /// The one site that may claim every name nobody else claims
    #[arg(long, value_name = "SITE", env = "ONEDOOR_CATCH_ALL", hide_env = true)]
    pub(super) catch_all: Option<String>,
    /// Let sites point at 169.254.0.0/16 and fe80::/10, where clouds keep their secrets
    #[arg(long, env = "ONEDOOR_ALLOW_LINK_LOCAL", hide_env = true)]
    #[arg(value_name = "YES", num_args = 0..=1, default_missing_value = "true")]
    pub(super) allow_link_local: Option<bool>,
    /// What to tell: error, warn, info, debug, or a filter [default: info]
    #[arg(long, value_name = "LEVEL", env = "ONEDOOR_LOG_LEVEL", hide_env = true)]
    pub(super) log_level: Option<String>,
    /// text or json [default: text]
    #[arg(
        long,
        value_name = "FORMAT",
        env = "ONEDOOR_LOG_FORMAT",
        hide_env = true
    )]
    pub(super) log_format: Option<String>,
    /// auto, always or never [default: auto]
    #[arg(long, value_name = "WHEN", env = "ONEDOOR_LOG_COLOR", hide_env = true)]
    pub(super) log_color: Option<String>,
}

impl Serving {
    /// These, completed by those typed in front of the command.
    pub(super) fn or(self, before: Serving) -> Serving {
        Serving {
            listen: if self.listen.is_empty() {
                before.listen
            } else {
                self.listen
            },
            admin_listen: self.admin_listen.or(before.admin_listen),
            workers: self.workers.or(before.workers),
            watch: self.watch.or(before.watch),
            catch_all: self.catch_all.or(before.catch_all),
            allow_link_local: self.allow_link_local.or(before.allow_link_local),
            log_level: self.log_level.or(before.log_level),
            log_format: self.log_format.or(before.log_format),
            log_color: self.log_color.or(before.log_color),
        }
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write it as \"Name: value\"")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

fn time(text: &str) -> Result<Duration, String> {
    units::duration(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_description_of_the_arguments_holds_together() {
        Args::command().debug_assert();
    }

    #[test]
    fn places_may_stand_on_either_side_of_the_command() {
        for words in [
            ["onedoor", "--state", "/s", "ls"],
            ["onedoor", "ls", "--state", "/s"],
        ] {
            let args = Args::try_parse_from(words).expect("both are fine");
            assert_eq!(
                args.places.state.as_deref(),
                Some(std::path::Path::new("/s")),
                "{words:?}"
            );
        }
    }

    #[test]
    fn places_that_were_named_are_words_of_a_line_for_a_shell() {
        let args = [
            "onedoor", "--state", "/s t", "ls", "--admin", "a'b.sock", "--sites", "sites.d",
        ];
        let args = Args::try_parse_from(args).expect("fine");
        assert_eq!(
            args.places.flags(),
            r" --sites sites.d --state '/s t' --admin 'a'\''b.sock'"
        );
        assert!(!args.places.is_silent() && Places::default().is_silent());
    }

    #[test]
    fn a_wrong_word_is_refused() {
        for words in [
            &["onedoor", "lss"][..],
            &["onedoor", "wait", "--timeout", "5"],
            &["onedoor", "ls", "--listen", "x"],
        ] {
            assert!(Args::try_parse_from(words).is_err(), "{words:?}");
        }
    }
}
