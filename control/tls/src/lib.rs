//! TLS: the trusted CAs, and explanations of failed handshakes.

#![forbid(unsafe_code)]

use rustls::{
    CertificateError, ClientConfig, Error, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use std::{fmt::Display, io, path::Path, sync::Arc};

/// Reason for a TLS configuration that cannot be made.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}. {remedy}")]
pub struct TlsError {
    /// Reason.
    pub reason: String,
    /// Remedy.
    pub remedy: &'static str,
}

impl TlsError {
    fn ca_file(path: &Path, reason: impl Display) -> Self {
        let remedy = "Give a PEM file with the certificates of CAs";
        TlsError { reason: format!("{}: {reason}", path.display()), remedy }
    }
}

/// Returns the TLS client configuration. It caches sessions, which shortens later handshakes.
///
/// Without a file, the system's store is used rather than a compiled-in one: it holds the CAs that
/// the machine's owner trusts, ordinary updates remove withdrawn CAs from it, and every other
/// program on this host uses it.
pub fn client_config(ca_file: Option<&Path>, protocol: &[u8]) -> Result<Arc<ClientConfig>, TlsError> {
    let roots = match ca_file {
        Some(path) => roots_in(path)?,
        None => system_roots()?,
    };
    let provider = Arc::new(ring::default_provider());
    // The provider has the algorithms that the default versions need.
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError { reason: error.to_string(), remedy: "Please report this" })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(Arc::new(config))
}

/// Checks that a certificate and a private key can be read, and belong together.
pub fn check_identity(certificate: &Path, key: &Path) -> Result<(), TlsError> {
    let refused = |path: &Path, reason: &dyn Display| TlsError {
        reason: format!("{}: {reason}", path.display()),
        remedy: "Give PEM files with a certificate, and with the private key that belongs to it",
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| refused(certificate, &error))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| refused(key, &error))?;
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder.with_root_certificates(RootCertStore::empty()).with_client_auth_cert(chain, private)
        })
        .map(drop)
        .map_err(|error| refused(key, &error))
}

fn roots_in(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| TlsError::ca_file(path, error))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| TlsError::ca_file(path, error))?;
        roots.add(certificate).map_err(|error| TlsError::ca_file(path, error))?;
    }
    if roots.is_empty() {
        return Err(TlsError::ca_file(path, "there is no certificate in it"));
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Some systems have a few certificates in formats too old to be parsed.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
        let remedy = "Install some (Debian: package ca-certificates), or give the file of your own CA";
        return Err(TlsError { reason: format!("this system trusts no CA{why}"), remedy });
    }
    Ok(roots)
}

/// Returns the TLS error inside a stream's I/O error, if there is one.
pub fn error_in(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// Explains a failed handshake with the host of a URL, with a remedy.
pub fn explain_host(error: &Error, host: &str) -> String {
    // A URL has IPv6 addresses in brackets.
    let plain = host.trim_start_matches('[').trim_end_matches(']');
    match ServerName::try_from(plain) {
        Ok(name) => explain(error, &name),
        Err(_) => error.to_string(),
    }
}

/// Explains a failed handshake with an upstream that should have been `name`, with a remedy.
pub fn explain(error: &Error, name: &ServerName<'_>) -> String {
    let name = name.to_str();
    let Error::InvalidCertificate(invalid) = error else { return error.to_string() };
    match invalid {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            let names = match invalid {
                CertificateError::NotValidForNameContext { presented, .. } if !presented.is_empty() => {
                    format!(", but for {}", presented.join(", "))
                }
                _ => String::new(),
            };
            format!(
                "its certificate is not for {name}{names}. Correct the name in the address, if it is the right host"
            )
        }
        // A CA of the same name with another key is a different CA.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
            "the certificate of {name} is from a CA that is not trusted. If the CA is your own, name its certificate in \
             tls_ca_file"
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => format!(
            "the certificate of {name} has expired. Have it renewed there; check this machine's clock"
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("the certificate of {name} is not valid yet. Check this machine's clock")
        }
        _ => format!("the certificate of {name} cannot be used: {invalid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_to_belong_to_its_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| {
            let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
            let [cert, key] = ["cert", "key"].map(|kind| folder.path().join(format!("{name}.{kind}")));
            std::fs::write(&cert, made.cert.pem()).unwrap();
            std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
            [cert, key]
        });
        assert!(check_identity(&one[0], &one[1]).is_ok());
        let absent = folder.path().join("absent");
        for (certificate, key, named) in [
            (&one[0], &other[1], &other[1]),
            (&one[0], &one[0], &one[0]),
            (&one[0], &absent, &absent),
            (&absent, &one[1], &absent),
        ] {
            let error = check_identity(certificate, key).unwrap_err();
            assert!(error.reason.starts_with(&named.display().to_string()), "{error}");
        }
    }
}
