//! Manual pages and shell completions, made from the definitions of command lines, so that they
//! cannot differ from what `--help` says.

#![forbid(unsafe_code)]

use clap::Command;
use clap_complete::{Generator, Shell};
use clap_mangen::Man;
use std::{fs, io, path::Path};

/// Section of the manual (man-pages(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Commands of users.
    Users = 1,
    /// File formats.
    Formats = 5,
    /// Commands of the administrator.
    Administrators = 8,
}

impl Section {
    /// Returns the folder of its pages below `/usr/share`.
    fn folder(self) -> String {
        format!("man/man{}", self as u8)
    }
}

/// Shells, each with the folder of its completions below `/usr/share` on Debian.
const SHELLS: [(Shell, &str); 3] = [
    (Shell::Bash, "bash-completion/completions"),
    (Shell::Zsh, "zsh/vendor-completions"),
    (Shell::Fish, "fish/vendor_completions.d"),
];

/// Writes the manual pages of a command and of its visible subcommands, and its completions for each
/// shell, into `share` as they lie in `/usr/share`.
pub fn write(command: &Command, section: Section, share: &Path) -> io::Result<()> {
    let pages = share.join(section.folder());
    fs::create_dir_all(&pages)?;
    // As a page of each subcommand's `help` would be one of nothing.
    let mut named = command.clone().disable_help_subcommand(true);
    named.build();
    write_pages(&named, section, &pages)?;
    for (shell, folder) in SHELLS {
        let folder = share.join(folder);
        fs::create_dir_all(&folder)?;
        let mut file = Vec::new();
        write_completions(command, shell, &mut file);
        fs::write(folder.join(completion_file(command, shell)), file)?;
    }
    Ok(())
}

/// Writes a page that no command line defines.
pub fn write_page(name: &str, section: Section, page: &str, share: &Path) -> io::Result<()> {
    let pages = share.join(section.folder());
    fs::create_dir_all(&pages)?;
    fs::write(pages.join(format!("{name}.{}", section as u8)), page)
}

/// Writes the completions of a command for a shell.
pub fn write_completions(command: &Command, shell: Shell, to: &mut dyn io::Write) {
    let mut command = command.clone();
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, name, to);
}

fn completion_file(command: &Command, shell: Shell) -> String {
    match shell {
        // bash-completion looks for the bare name.
        Shell::Bash => command.get_name().to_owned(),
        _ => shell.file_name(command.get_name()),
    }
}

fn write_pages(command: &Command, section: Section, pages: &Path) -> io::Result<()> {
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        write_pages(subcommand, section, pages)?;
    }
    let man = Man::new(command.clone()).section((section as u8).to_string()).manual("ringdns");
    man.generate_to(pages).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Arg;

    #[test]
    fn each_visible_command_has_a_page_and_each_shell_a_completion() {
        let command = Command::new("tool")
            .version("1.2")
            .about("Does things.")
            .subcommand(Command::new("show").about("Shows one.").arg(Arg::new("name").help("Its name.")))
            .subcommand(Command::new("secret").hide(true));
        let share = tempfile::tempdir().unwrap();
        write(&command, Section::Administrators, share.path()).unwrap();
        write_page("tool.conf", Section::Formats, "page", share.path()).unwrap();
        let read = |path: &str| fs::read_to_string(share.path().join(path)).unwrap();
        let page = read("man/man8/tool.8");
        assert!(page.contains(".TH tool 8") && page.contains("Does things."), "{page}");
        assert!(read("man/man8/tool-show.8").contains("Its name."));
        assert!(!share.path().join("man/man8/tool-secret.8").exists());
        assert_eq!(read("man/man5/tool.conf.5"), "page");
        for path in [
            "bash-completion/completions/tool",
            "zsh/vendor-completions/_tool",
            "fish/vendor_completions.d/tool.fish",
        ] {
            assert!(read(path).contains("show"), "{path}");
        }
    }
}
