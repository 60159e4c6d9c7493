//! `ringctl config`: the configuration in effect, and files.

use crate::{print::print_as, talk::Ringdnsd};
use anyhow::{Context, anyhow};
use clap::{Subcommand, ValueEnum};
use ringdns_api::{ConfigDifference, ConfigView};
use ringdns_common::{printable::Printable, units::counted};
use ringdns_config::{Config, schema, settings};
use ringdns_import::{BYTES_MAX, Format, Imported, Unmapped, import};
use serde_json::{Value, json};
use std::{
    fs,
    io::{self, Read, Write},
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
    /// Make a configuration of that of Unbound, dnsmasq, AdGuard Home, blocky or dnsdist.
    ///
    /// Each line either becomes a key, with its line in a comment, or is reported with the reason. What is
    /// reported may matter: read it before the result is used.
    Import {
        /// File of the other server.
        file: PathBuf,
        /// Format of the file. Absent: detected by the name of the file and by its text.
        #[arg(long, value_enum)]
        from: Option<ImportFormat>,
        /// Write the result to this file, which must not exist. Absent: standard output.
        #[arg(short, long)]
        output: Option<PathBuf>,
    },
}

/// Format of another server's configuration.
#[derive(Clone, Copy, ValueEnum)]
pub enum ImportFormat {
    /// unbound.conf
    Unbound,
    /// dnsmasq.conf
    Dnsmasq,
    /// AdGuardHome.yaml
    #[value(name = "adguardhome")]
    AdGuardHome,
    /// blocky's config.yml
    Blocky,
    /// dnsdist.yml
    Dnsdist,
}

impl From<ImportFormat> for Format {
    fn from(format: ImportFormat) -> Self {
        match format {
            ImportFormat::Unbound => Format::Unbound,
            ImportFormat::Dnsmasq => Format::Dnsmasq,
            ImportFormat::AdGuardHome => Format::AdGuardHome,
            ImportFormat::Blocky => Format::Blocky,
            ImportFormat::Dnsdist => Format::Dnsdist,
        }
    }
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
            ConfigCommand::Import { file, from, output } => {
                import_file(&file, from.map(Into::into), output.as_deref(), json)
            }
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

/// Imports a file: the configuration goes to `output`, and the report to standard error.
fn import_file(file: &Path, format: Option<Format>, output: Option<&Path>, json: bool) -> anyhow::Result<()> {
    let name = file.display().to_string();
    let mut text = String::new();
    // One byte more than is accepted: it is refused then.
    let opened = fs::File::open(file).map(|file| file.take(BYTES_MAX as u64 + 1));
    let read = opened.and_then(|mut file| file.read_to_string(&mut text));
    read.with_context(|| format!("{name} cannot be read"))?;
    let format = format.or_else(|| Format::detect(&name, &text));
    let format = format.with_context(|| format!("{name}: its format is not known. Give it with --from"))?;
    let Imported { toml, mapped, unmapped } = import(format, &text, &name).with_context(|| name.clone())?;
    match output {
        Some(path) => {
            let created = fs::OpenOptions::new().write(true).create_new(true).open(path);
            let written = created.and_then(|mut file| file.write_all(toml.as_bytes()));
            written.with_context(|| format!("{} cannot be written", path.display()))?;
        }
        None if !json => io::stdout().write_all(toml.as_bytes())?,
        None => {}
    }
    if json {
        let report =
            |Unmapped { line, key, reason }: &Unmapped| json!({ "line": line, "key": key, "reason": reason });
        let unmapped: Vec<Value> = unmapped.iter().map(report).collect();
        let whole =
            json!({ "format": format.to_string(), "toml": toml, "mapped": mapped, "unmapped": unmapped });
        return Ok(writeln!(io::stdout(), "{whole}")?);
    }
    let mut report = io::stderr().lock();
    for Unmapped { line, key, reason } in &unmapped {
        writeln!(report, "{}", Printable(format!("{name}:{line}: {key}: not mapped: {reason}")))?;
    }
    let lines = counted(mapped as u64, "line", "lines");
    Ok(writeln!(report, "{name}: {format}, {lines} mapped, {} not mapped", unmapped.len())?)
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
