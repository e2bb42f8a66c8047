//! What our connections to a Postgres share, whichever database they go to: how far TLS is wanted and whom to
//! trust → a configuration for rustls; why a connection failed → words.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use tokio_postgres::config::SslMode;

/// How far TLS is wanted and what it proves; the words of libpq's `sslmode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TlsMode {
    Disable,
    /// Encrypted if the server can; proves nothing.
    Prefer,
    /// Encrypted; proves nothing.
    Require,
    /// The certificate is signed by the authority.
    VerifyCa,
    /// And made out to this host.
    #[default]
    VerifyFull,
}

impl TlsMode {
    /// From the weakest to the strongest.
    pub(crate) const ALL: [Self; 5] =
        [Self::Disable, Self::Prefer, Self::Require, Self::VerifyCa, Self::VerifyFull];

    /// The word for it in the settings.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }

    /// What tokio-postgres asks the server for; what is proven, the configuration decides.
    pub(crate) fn ssl_mode(self) -> SslMode {
        match self {
            Self::Disable => SslMode::Disable,
            Self::Prefer => SslMode::Prefer,
            Self::Require | Self::VerifyCa | Self::VerifyFull => SslMode::Require,
        }
    }
}

/// Why a connection failed, with all causes: tokio-postgres keeps the telling part (a refused certificate) in
/// the last of them.
pub(crate) fn reason(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        let more = source.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = source.source();
    }
    if is_foreign(error) {
        text.push_str(" (is that a Postgres?)");
    }
    text
}

/// What the server, or the connection, says of a failed statement, without values of fields: for logs. Postgres quotes values
/// in the detail of a data exception (class 22) or a violated constraint (23), and in the message of the former.
pub(crate) fn without_values(error: &tokio_postgres::Error) -> String {
    let Some(said) = error.as_db_error() else { return reason(error) };
    let (code, message) = (said.code().code(), said.message());
    let (message, detail) = match code.get(..2) {
        Some("22") => (without_quoted(message), None),
        Some("23") => (message.to_owned(), None),
        _ => (message.to_owned(), said.detail()),
    };
    let detail = detail.map(|detail| format!(" ({detail})")).unwrap_or_default();
    format!("{message}{detail} [{code}]")
}

/// `text` with `…` in the place of what is within double quotes, from the first to the last of them.
pub(crate) fn without_quoted(text: &str) -> String {
    match (text.split_once('"'), text.rsplit_once('"')) {
        // One that is cut off has no end: nothing behind it is shown.
        (Some((before, rest)), Some((_, after))) => {
            let after = if rest.contains('"') { after } else { "" };
            format!("{before}\"…\"{after}")
        }
        _ => text.to_owned(),
    }
}

/// Whether something answered that does not speak as a Postgres does, which has a code for all that it refuses.
pub(crate) fn is_foreign(error: &tokio_postgres::Error) -> bool {
    let text = error.to_string();
    error.code().is_none()
        && ["unexpected message", "error communicating", "error parsing"]
            .iter()
            .any(|part| text.contains(part))
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{}: {reason}", path.display())]
    CaFile { path: PathBuf, reason: String },
    #[error("{0}")]
    Library(#[from] rustls::Error),
    #[error("{0}")]
    Verifier(#[from] rustls::client::VerifierBuilderError),
}

/// `ca`: PEM file of the authorities to trust; `None`: those that browsers trust.
///
/// # Errors
/// The file cannot be read, or holds no certificate.
pub(crate) fn client_config(mode: TlsMode, ca: Option<&Path>) -> Result<ClientConfig, Error> {
    let roots = match ca {
        Some(path) => read_authorities(path)?,
        None => RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() },
    };
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let chain = match mode {
        TlsMode::VerifyFull => {
            return Ok(builder.with_root_certificates(roots).with_no_client_auth());
        }
        TlsMode::VerifyCa => {
            let roots = Arc::new(roots);
            let builder = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
            Some(builder.build()?)
        }
        TlsMode::Disable | TlsMode::Prefer | TlsMode::Require => None,
    };
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Lenient { provider, chain }))
        .with_no_client_auth())
}

fn read_authorities(path: &Path) -> Result<RootCertStore, Error> {
    let failed = |reason: String| Error::CaFile { path: path.to_owned(), reason };
    let read = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| failed(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    if roots.add_parsable_certificates(read).0 == 0 {
        return Err(failed(String::from("no certificate in it")));
    }
    Ok(roots)
}

/// Does not ask whom the certificate names; without `chain`, not even who signed it.
#[derive(Debug)]
struct Lenient {
    provider: Arc<CryptoProvider>,
    chain: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use rustls::{CertificateError as Reason, Error as Refused};
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(Refused::InvalidCertificate(
                Reason::NotValidForName | Reason::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::without_quoted;

    #[test]
    fn quoted_values_stay_behind() {
        for (text, rest) in [
            (
                "invalid input syntax for type date: \"31-02\"",
                "invalid input syntax for type date: \"…\"",
            ),
            ("option \"a \"b\" c\" is new", "option \"…\" is new"),
            ("cut off: \"abc", "cut off: \"…\""),
            ("no quotes", "no quotes"),
        ] {
            assert_eq!(without_quoted(text), rest);
        }
    }
}
