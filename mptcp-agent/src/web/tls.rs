//! Certificate and key.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ServerConfig, SupportedProtocolVersion};

use super::LONGEST;
use crate::host::file;

/// The versions that are offered, in order.
const VERSIONS: [(&str, &SupportedProtocolVersion); 2] = [("TLS12", &TLS12), ("TLS13", &TLS13)];

/// Returns the place in [`VERSIONS`] of a name.
///
/// # Errors
/// Says what was expected.
pub(super) fn version(name: &str) -> Result<usize, String> {
    let known = VERSIONS.iter().position(|(known, _)| *known == name);
    known.ok_or_else(|| format!("the version is `{name}`: expected TLS12 or TLS13"))
}

/// Reads a certificate, and those that lead from it to one that clients know.
///
/// # Errors
/// Says what is wrong with the file.
pub(super) fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |why: &dyn std::fmt::Display| format!("the certificate {}: {why}", path.display());
    let bytes = file::read_whole(path, LONGEST).map_err(|error| wrong(&error))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let chain = chain.map_err(|error| wrong(&error))?;
    match chain.is_empty() {
        true => Err(wrong(&"no certificate in PEM is in it")),
        false => Ok(chain),
    }
}

/// Reads a private key.
///
/// # Errors
/// Says what is wrong with the file.
pub(super) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let wrong = |why: &dyn std::fmt::Display| format!("the key {}: {why}", path.display());
    let bytes = file::read_whole(path, LONGEST).map_err(|error| wrong(&error))?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| wrong(&error))
}

/// Returns what makes TLS connections, of the versions from `least` to `most`.
///
/// # Errors
/// Says what does not go together.
pub(super) fn acceptor(
    least: Option<usize>,
    most: Option<usize>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<TlsAcceptor, String> {
    let (least, most) = (least.unwrap_or(0), most.unwrap_or(VERSIONS.len() - 1));
    if least > most {
        return Err("min_version is above max_version".to_owned());
    }
    let versions: Vec<_> = VERSIONS[least..=most].iter().map(|(_, of)| *of).collect();
    let wrong =
        |error: tokio_rustls::rustls::Error| format!("certificate and key cannot be used: {error}");
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&versions)
        .map_err(wrong)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(wrong)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
