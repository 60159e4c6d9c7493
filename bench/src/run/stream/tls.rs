//! How a server's certificate is looked at.

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
    /// Certificates (PEM) that the server's must be signed by (dot).
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    pub ca: Option<PathBuf>,
    /// Take any certificate (dot).
    #[arg(long)]
    pub insecure: bool,
    /// The name that the server's certificate must have; its address when absent (dot).
    #[arg(long, value_name = "NAME")]
    pub tls_name: Option<String>,
}

/// What connections are encrypted with.
#[derive(Clone, Debug)]
pub struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    /// As `args` say.
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
                    bail!("{} holds no certificate: it should be PEM", path.display());
                }
                builder.with_root_certificates(roots).with_no_client_auth()
            }
            None if args.insecure => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
                .with_no_client_auth(),
            None => bail!(
                "--backend dot wants --ca with the server's authority, or --insecure to take any server"
            ),
        };
        // RFC 7858 names no ALPN; IANA does.
        config.alpn_protocols = vec![b"dot".to_vec()];
        let name = match &args.tls_name {
            Some(name) => ServerName::try_from(name.clone())
                .with_context(|| format!("--tls-name \"{name}\" is no host name and no address"))?,
            None => ServerName::from(target.ip()),
        };
        Ok(Tls { config: Arc::new(config), name })
    }

    /// The client's end of a connection.
    pub fn client(&self) -> Result<ClientConnection> {
        ClientConnection::new(self.config.clone(), self.name.clone()).context("TLS cannot be set up")
    }
}

/// Takes every certificate: what is measured is a server of one's own.
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
