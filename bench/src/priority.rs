//! Priority for programs that share a core with a generator that never sleeps.

use std::{process::Command, sync::LazyLock};

/// Whether this process may assign real-time priority. A cgroup without real-time runtime forbids
/// it even to root.
static PERMITTED: LazyLock<bool> = LazyLock::new(|| {
    let tried = Command::new("chrt").args(["--fifo", "1", "true"]).output();
    tried.is_ok_and(|output| output.status.success())
});

/// Returns words to put before a program's command, so that it has priority over every other
/// program on its core.
///
/// Without permission for real-time priority, they set the best niceness that is allowed.
pub fn ahead(level: u8) -> Vec<String> {
    words(*PERMITTED, level)
}

/// Returns a remark for readers of a table that was measured without real-time priority.
pub fn remark() -> Option<String> {
    (!*PERMITTED).then(|| {
        "real-time priority is not permitted here (a cgroup without real-time runtime, or no CAP_SYS_NICE): the \
         upstream and urgent generators run at nice -20, so figures scatter more"
            .into()
    })
}

/// Gives process `pid` and its threads priority over every other program on their cores, if that is permitted.
pub fn raise(pid: u32) -> Command {
    let pid = pid.to_string();
    let mut command;
    if *PERMITTED {
        command = Command::new("chrt");
        command.args(["--all-tasks", "--fifo", "--pid", "2", &pid]);
    } else {
        command = Command::new("renice");
        command.args(["-n", "-20", "--pid", &pid]);
    }
    command
}

fn words(permitted: bool, level: u8) -> Vec<String> {
    let level = level.to_string();
    let words = if permitted { ["chrt", "--fifo", &level] } else { ["nice", "-n", "-20"] };
    words.map(String::from).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_runs_whether_or_not_real_time_priority_is_permitted() {
        for permitted in [*PERMITTED, false] {
            let words = words(permitted, 1);
            let output = Command::new(&words[0]).args(&words[1..]).args(["echo", "ran"]).output().unwrap();
            assert_eq!(output.stdout, b"ran\n", "{words:?}");
        }
    }
}
