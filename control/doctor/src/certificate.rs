//! Validity of certificates in files.

use rustls::pki_types::{CertificateDer, pem::PemObject};
use std::path::{Path, PathBuf};
use x509_parser::prelude::{FromDer, X509Certificate};

/// File with certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Key that names the file.
    pub key: String,
    /// Path.
    pub path: PathBuf,
    /// Unix times from and until which each certificate is valid, in the order of the file; or the reason why they
    /// cannot be read.
    pub validity: Result<Vec<(i64, i64)>, String>,
}

impl Certificate {
    /// Reads a file.
    pub fn read(key: &str, path: &Path) -> Self {
        Certificate { key: key.to_owned(), path: path.to_owned(), validity: validity(path) }
    }
}

fn validity(path: &Path) -> Result<Vec<(i64, i64)>, String> {
    let all = CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())?;
    all.map(|der| {
        let der = der.map_err(|error| error.to_string())?;
        let (_, certificate) = X509Certificate::from_der(&der).map_err(|error| error.to_string())?;
        let validity = certificate.validity();
        Ok((validity.not_before.timestamp(), validity.not_after.timestamp()))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_a_certificate_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cert.pem");
        let mut made = rcgen::CertificateParams::new(vec!["dns.example".to_owned()]).unwrap();
        made.not_before = rcgen::date_time_ymd(2020, 1, 1);
        made.not_after = rcgen::date_time_ymd(2021, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        std::fs::write(&path, made.self_signed(&key).unwrap().pem()).unwrap();
        let read = Certificate::read("redis.tls_cert_file", &path);
        assert_eq!(read.validity, Ok(vec![(1_577_836_800, 1_609_459_200)]));
        assert!(Certificate::read("x", &folder.path().join("none")).validity.is_err());
    }
}
