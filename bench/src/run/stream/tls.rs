//! Verification of the server's certificate.

use anyhow::{Context, Result, bail};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use std::{net::SocketAddr, path::PathBuf, sync::Arc};

/// Options of DNS over TLS.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct TlsArgs {
    /// Certificates (PEM) of the authorities that must have signed the server's (dot).
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    pub ca: Option<PathBuf>,
    /// Accept any certificate (dot).
    #[arg(long)]
    pub insecure: bool,
    /// Name that the server's certificate must have. Default: the server's address (dot).
    #[arg(long, value_name = "NAME")]
    pub tls_name: Option<String>,
}

/// TLS configuration of the connections.
#[derive(Clone, Debug)]
pub struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    /// Returns the configuration that `args` give.
    pub fn new(args: &TlsArgs, target: SocketAddr) -> Result<Self> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .context("TLS cannot be set up")?;
        let mut config = match &args.ca {
            Some(path) => {
                let mut roots = RootCertStore::empty();
                let said = || format!("cannot read the certificates in {}", path.display());
                for certificate in CertificateDer::pem_file_iter(path).with_context(said)? {
                    roots.add(certificate.with_context(said)?).with_context(said)?;
                }
                if roots.is_empty() {
                    bail!("{} holds no certificate: it must be PEM", path.display());
                }
                builder.with_root_certificates(roots).with_no_client_auth()
            }
            None if args.insecure => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
                .with_no_client_auth(),
            None => bail!(
                "--backend dot needs --ca with the server's authority, or --insecure to accept any server"
            ),
        };
        // RFC 7858 specifies no ALPN; the name is from IANA's registry.
        config.alpn_protocols = vec![b"dot".to_vec()];
        let name = match &args.tls_name {
            Some(name) => ServerName::try_from(name.clone())
                .with_context(|| format!("--tls-name \"{name}\" is neither a host name nor an address"))?,
            None => ServerName::from(target.ip()),
        };
        Ok(Tls { config: Arc::new(config), name })
    }

    /// Returns the client's end of a connection.
    pub fn client(&self) -> Result<ClientConnection> {
        ClientConnection::new(self.config.clone(), self.name.clone()).context("TLS cannot be set up")
    }
}

/// Verifier that accepts every certificate: the server under test is the operator's own.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
