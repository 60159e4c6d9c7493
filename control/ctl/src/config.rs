//! `ringctl config`: the configuration in effect, and files.

use crate::{print::print_as, talk::Ringdnsd};
use anyhow::{Context, anyhow};
use clap::Subcommand;
use ringdns_api::{ConfigDifference, ConfigView};
use ringdns_common::printable::Printable;
use ringdns_config::{Config, schema, settings};
use serde_json::Value;
use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};
use toml::Table;

/// Subcommands of `ringctl config`.
#[derive(Subcommand)]
pub enum ConfigCommand {
    /// Show the configuration in effect as a file: with defaults, without passwords.
    ///
    /// Changes that wait for a restart are not in it. The output is valid TOML; keys that the file does
    /// not give are marked with "# default".
    Show {
        /// Leave the defaults out.
        #[arg(long)]
        written: bool,
    },
    /// Compare the configuration in effect with a file, key by key, and say what a reload would apply and
    /// what needs a restart.
    Diff {
        /// File to compare with. Passwords and parameters of URLs are not compared. Absent: the file that
        /// ringdnsd was started with, with all that it names.
        file: Option<PathBuf>,
    },
    /// Print the JSON Schema of the configuration file, by which editors complete and check it.
    ///
    /// Editors with taplo (Even Better TOML) read it if the file begins with
    /// "#:schema /usr/share/ringdns/ringdns.schema.json", where the package has it.
    Schema,
}

impl ConfigCommand {
    /// Runs the subcommand.
    pub async fn run(self, ringdnsd: &Ringdnsd, json: bool) -> anyhow::Result<()> {
        match self {
            ConfigCommand::Show { written } => {
                let body = ringdnsd.get("/v1/config").await?;
                print_as(json, &body, |view: ConfigView, out| show(&view, written, out))
            }
            ConfigCommand::Schema => Ok(io::stdout().write_all(schema_text()?.as_bytes())?),
            ConfigCommand::Diff { file: None } => {
                print_as(json, &ringdnsd.get("/v1/config/diff").await?, show_differences)
            }
            ConfigCommand::Diff { file: Some(file) } => {
                let view: ConfigView = serde_json::from_slice(&ringdnsd.get("/v1/config").await?)?;
                let body = serde_json::to_vec(&compare(&view, &file)?)?;
                print_as(json, &body, show_differences)
            }
        }
    }
}

/// Writes the schema into `share`, as it lies in /usr/share.
pub fn write_schema(share: &Path) -> anyhow::Result<()> {
    let folder = share.join("ringdns");
    fs::create_dir_all(&folder)?;
    Ok(fs::write(folder.join("ringdns.schema.json"), schema_text()?)?)
}

fn schema_text() -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(&schema::schema())? + "\n")
}

fn show(view: &ConfigView, only_written: bool, out: &mut dyn Write) -> io::Result<()> {
    let file = view.file.as_deref().unwrap_or("command line");
    writeln!(out, "# In effect, from {}", Printable(file))?;
    let written = tables(&view.written);
    let shown = if only_written { &written } else { &tables(&view.effective) };
    write!(out, "{}", settings::text(shown, &written))
}

/// Compares the configuration in effect with a file that ringctl reads.
fn compare(view: &ConfigView, file: &Path) -> anyhow::Result<Vec<ConfigDifference>> {
    let text = fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    Config::parse(&text, file).map_err(|refusal| anyhow!("{}", refusal.lines().join("\n")))?;
    let after: Table = toml::from_str(&text)?;
    let differences = settings::differences(&tables(&view.written), &settings::masked(&after));
    let difference = |change: settings::Difference| ConfigDifference {
        restart: settings::restart_reason(change.table()).map(Into::into),
        key: change.key,
        running: change.before,
        file: change.after,
    };
    Ok(differences.into_iter().map(difference).collect())
}

fn show_differences(differences: Vec<ConfigDifference>, out: &mut dyn Write) -> io::Result<()> {
    if differences.is_empty() {
        return writeln!(out, "no difference");
    }
    for ConfigDifference { key, running, file, restart } in differences {
        writeln!(out, "{}", Printable(key))?;
        match (running, file) {
            (None, None) => writeln!(out, "  files that it names have changed")?,
            (running, file) => {
                for (word, value) in [("running", running), ("file", file)] {
                    writeln!(out, "  {word:<8} {}", Printable(value.as_deref().unwrap_or("absent")))?;
                }
            }
        }
        match restart {
            Some(reason) => writeln!(out, "  needs a restart: {reason}")?,
            None => writeln!(out, "  a reload applies it")?,
        }
    }
    Ok(())
}

/// Returns tables that came as JSON.
fn tables(json: &Value) -> Table {
    serde_json::from_value(json.clone()).unwrap_or_default()
}
