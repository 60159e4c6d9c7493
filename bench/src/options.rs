//! Options of a subcommand, parsed from words instead of the command line.

use clap::{Args, Command};

/// Parses options.
pub fn parse<T: Args>(words: &[&str]) -> Result<T, clap::Error> {
    let command = T::augment_args(Command::new("ringbench").no_binary_name(true));
    T::from_arg_matches(&command.try_get_matches_from(words)?)
}
