//! Certificates and TLS servers for tests.

use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use std::{io::Write, sync::Arc};
use tokio_rustls::TlsAcceptor;

/// Certificate authority for a test.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: tempfile::NamedTempFile,
}

impl Authority {
    /// Creates an authority with a new key.
    pub fn generate() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(certificate.pem().as_bytes()).unwrap();
        Authority { issuer: Issuer::new(params, key), file }
    }

    /// Returns the path of its certificate, for clients that trust it.
    pub fn path(&self) -> String {
        self.file.path().display().to_string()
    }

    /// Returns a certificate for the server `name`, with its key. It expired in 2001 if `expired`
    /// is set.
    pub fn vouch(&self, name: &str, expired: bool) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        if expired {
            params.not_before = date_time_ymd(2000, 1, 1);
            params.not_after = date_time_ymd(2001, 1, 1);
        }
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }
}

/// Returns the acceptor of a TLS server with this certificate.
pub fn server(vouched: (Certificate, KeyPair), protocol: &[u8]) -> TlsAcceptor {
    let (certificate, key) = vouched;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    config.alpn_protocols = if protocol.is_empty() { Vec::new() } else { vec![protocol.to_vec()] };
    TlsAcceptor::from(Arc::new(config))
}
