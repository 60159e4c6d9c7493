//! `[cookies]`: DNS cookies for clients.

use crate::{table::table, values::choice};
use std::path::PathBuf;

table! {
    /// DNS cookies for clients (RFC 7873): a valid cookie proves that the client's address is not
    /// forged.
    "[cookies]" RawCookies {
        /// Whether clients that send a cookie get a server cookie (RFC 9018).
        enabled: bool = true,
        /// File with the secret that cookies are made with, 32 hexadecimal digits, so that all
        /// servers of an anycast address accept each other's cookies. An optional second line holds
        /// another secret whose cookies are accepted too: the previous or the next one. Absent: a
        /// random secret at every start.
        secret_file: Option<String> = None,
        /// Clients that get BADCOOKIE, and retry, unless their cookie is valid: `"never"`: none;
        /// `"udp"`: clients that query over UDP with a cookie that is not valid. Clients that send
        /// no cookie are answered in any case.
        require: Require = Require::Never,
    }
}

choice! {
    /// Clients that must present a valid cookie, among those that send cookies at all.
    Require {
        /// No client.
        #[default]
        Never = "never",
        /// Clients that query over UDP.
        Udp = "udp",
    }
}

/// DNS cookies for clients.
#[derive(Clone, Debug)]
pub struct CookieConfig {
    /// Whether clients get server cookies.
    pub enabled: bool,
    /// File with the secret; `None`: a random secret.
    pub secret_file: Option<PathBuf>,
    /// Whether a client that sends a cookie over UDP must send a valid one.
    pub require_over_udp: bool,
}

impl RawCookies {
    /// Returns the values, none of which needs a check beyond its type.
    pub fn check(self) -> CookieConfig {
        CookieConfig {
            enabled: self.enabled,
            secret_file: self.secret_file.map(Into::into),
            require_over_udp: self.require == Require::Udp,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{MINIMAL, minimal_with, refused};

    #[test]
    fn cookies_are_required_over_udp_alone() {
        assert!(!minimal_with("").cookies.require_over_udp);
        assert!(minimal_with("[cookies]\nrequire = \"udp\"").cookies.require_over_udp);
        let case = ["require = \"tcp\"", "6", "cookies.require", "tcp", "Correct the value"];
        refused(&format!("{MINIMAL}[cookies]\n"), &[case]);
    }
}
