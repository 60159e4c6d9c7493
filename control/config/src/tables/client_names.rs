//! `[client_names]`: names of clients in the query log.

use super::{
    local::LocalConfig,
    query_log::{Privacy, RawQueryLog},
};
use crate::{error::Problem, lists::prefixes, table::table};
use ringdns_dataplane::prefix::Prefix;
use std::path::PathBuf;

/// Most lease files.
const FILES_MAX: usize = 16;

/// Prefixes of private addresses: RFC 1918, 3927, 4193 and 4291.
const PRIVATE: [&str; 6] =
    ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7", "fe80::/10"];

table! {
    /// Names of clients, for the column `client_name` of the query log. The first source that has a name
    /// for an address gives it: hosts files, lease files in their order, PTR records. A name is what a
    /// client or a file says, and no proof. Needs `query_log.privacy = "none"`. See docs/query-log.md.
    "[client_names]" RawClientNames {
        /// Whether the files of `local.hosts_files` name clients.
        hosts_files: bool = false,
        /// Lease files of DHCP servers, which name clients: of dnsmasq, of Kea (memfile, CSV) and of ISC
        /// DHCP. Absolute paths; they are read again when they change.
        lease_files: Vec<String> = Vec::new(),
        /// Whether PTR records name clients. `[[upstream]]` is asked, in the background: the first rows
        /// of a client have no name.
        ptr: bool = false,
        /// Prefixes of the clients whose PTR records are looked up. Absent: private addresses.
        ptr_clients: Option<Vec<String>> = None,
    }
}

/// Names of clients.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientNamesConfig {
    /// Whether hosts files name clients.
    pub hosts_files: bool,
    /// Lease files.
    pub lease_files: Vec<PathBuf>,
    /// Prefixes of the clients whose PTR records are looked up; empty: none are.
    pub ptr_clients: Vec<Prefix>,
}

impl ClientNamesConfig {
    /// Whether clients have names from anywhere.
    pub fn is_used(&self) -> bool {
        self.hosts_files || !self.lease_files.is_empty() || !self.ptr_clients.is_empty()
    }
}

impl RawClientNames {
    /// Returns the checked values.
    pub fn check(self, log: &RawQueryLog, local: &LocalConfig) -> Result<ClientNamesConfig, Problem> {
        let key = "client_names.lease_files";
        if self.lease_files.len() > FILES_MAX {
            let reason = format!("there are more than {FILES_MAX} files");
            return Err(Problem::new(key, reason, "List the files of the servers whose clients ask here"));
        }
        if let Some(i) = self.lease_files.iter().position(|path| !path.starts_with('/')) {
            let reason = format!("{:?} is no absolute path", self.lease_files[i]);
            let remedy = "Write \"/var/lib/misc/dnsmasq.leases\"";
            return Err(Problem::new(format!("{key}[{i}]"), reason, remedy));
        }
        if self.hosts_files && local.hosts_files.is_empty() {
            let remedy = "Set local.hosts_files = [\"/etc/hosts\"], or remove the key";
            return Err(Problem::new("client_names.hosts_files", "there are no hosts files", remedy));
        }
        if self.ptr_clients.is_some() && !self.ptr {
            let remedy = "Set client_names.ptr = true, or remove the key";
            return Err(Problem::new("client_names.ptr_clients", "no PTR records are looked up", remedy));
        }
        let private = || PRIVATE.map(str::to_owned).to_vec();
        let config = ClientNamesConfig {
            hosts_files: self.hosts_files,
            lease_files: self.lease_files.into_iter().map(Into::into).collect(),
            ptr_clients: match self.ptr {
                true => prefixes("client_names.ptr_clients", &self.ptr_clients.unwrap_or_else(private))?,
                false => Vec::new(),
            },
        };
        if config.is_used() && log.privacy != Privacy::None {
            let reason = "names would tell the clients whose addresses query_log.privacy hides";
            let remedy = "Remove the table, or set query_log.privacy = \"none\"";
            return Err(Problem::new("client_names", reason, remedy));
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{MINIMAL, minimal_with, refused};

    #[test]
    fn clients_have_no_names_unless_somebody_asks() {
        assert!(!minimal_with("").client_names.is_used());
        let names = minimal_with("[client_names]\nptr = true").client_names;
        assert!(names.is_used() && names.ptr_clients.len() == 6);
        let text = "[local]\nhosts_files = [\"/etc/hosts\"]\n[client_names]\nhosts_files = true\n\
                    lease_files = [\"/leases\"]\nptr = true\nptr_clients = [\"192.0.2.0/24\"]";
        let names = minimal_with(text).client_names;
        assert!(names.hosts_files && names.lease_files == [std::path::Path::new("/leases")]);
        assert_eq!(names.ptr_clients, ["192.0.2.0/24".parse().unwrap()]);
    }

    #[test]
    fn wrong_values_are_refused() {
        let many = format!("lease_files = {:?}", ["/a"; 17]);
        refused(
            &format!("{MINIMAL}[client_names]\n"),
            &[
                [
                    "lease_files = [\"/a\", \"b\"]",
                    "6",
                    "client_names.lease_files[1]",
                    "\"b\"",
                    "/var/lib/misc",
                ],
                [&many, "6", "client_names.lease_files", "more than 16", "whose clients"],
                ["hosts_files = true", "6", "client_names.hosts_files", "no hosts files", "/etc/hosts"],
                ["ptr_clients = [\"::/0\"]", "6", "client_names.ptr_clients", "no PTR", "ptr = true"],
                ["ptr = true\nptr_clients = [\"x\"]", "7", "client_names.ptr_clients[0]", "\"x\"", "198.51"],
                [
                    "ptr = true\n[query_log]\nprivacy = \"truncate\"",
                    "5",
                    "client_names",
                    "would tell",
                    "privacy = \"none\"",
                ],
            ],
        );
    }
}
