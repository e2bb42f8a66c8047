//! Ordinary connections to the source, for the catalogue, publications, slots and the copy; TLS for them.

use std::sync::Arc;

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use tokio::time::timeout;
use tokio_postgres::{Client, Config, NoTls, config::SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    error::Error,
    settings::{SourceSettings, TlsMode},
};

/// Settings that decide how values become text: the same on every session, so that copy and stream agree.
pub(super) const VALUE_OPTIONS: &str = "-c datestyle=ISO -c intervalstyle=iso_8601 -c extra_float_digits=3 \
     -c bytea_output=hex -c timezone=UTC -c client_encoding=UTF8 -c statement_timeout=0 \
     -c idle_in_transaction_session_timeout=0";

/// What the server shows of us.
pub(super) const APPLICATION: &str = "plait";

/// Connects; the connection ends with the client.
///
/// # Errors
/// `Unreachable`, `Timeout` or `Certificates`.
pub(super) async fn connect(source: &SourceSettings) -> Result<Client, Error> {
    let mut config = Config::new();
    config
        .host(&source.host)
        .port(source.port)
        .user(&source.user)
        .password(&source.password)
        .dbname(&source.database)
        .application_name(APPLICATION)
        .options(VALUE_OPTIONS)
        .keepalives_idle(std::time::Duration::from_mins(1))
        .ssl_mode(match source.tls {
            TlsMode::Disable => SslMode::Disable,
            TlsMode::Prefer => SslMode::Prefer,
            TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => SslMode::Require,
        });
    let place = || source.place();
    let unreachable = |error: tokio_postgres::Error| match error.code() {
        Some(_) => Error::Sql { doing: format!("log in at {}", place()), source: error },
        None => Error::Unreachable { place: place(), source: Box::new(CauseText::of(&error)) },
    };
    let connecting = async {
        if source.tls == TlsMode::Disable || source.host.starts_with('/') {
            let (client, connection) = config.connect(NoTls).await.map_err(unreachable)?;
            tokio::spawn(drive(connection));
            Ok(client)
        } else {
            let tls = MakeRustlsConnect::new(client_config(source)?);
            let (client, connection) = config.connect(tls).await.map_err(unreachable)?;
            tokio::spawn(drive(connection));
            Ok(client)
        }
    };
    match timeout(source.connect_timeout, connecting).await {
        Ok(connected) => connected,
        Err(_) => Err(Error::Timeout { place: place(), timeout: source.connect_timeout }),
    }
}

/// The texts of an error and its causes: tokio-postgres keeps the telling part (a refused certificate) in the
/// last of them.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct CauseText(String);

impl CauseText {
    fn of(error: &tokio_postgres::Error) -> Self {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(source) = cause {
            let more = source.to_string();
            if !text.contains(&more) {
                text.push_str(": ");
                text.push_str(&more);
            }
            cause = source.source();
        }
        Self(text)
    }
}

async fn drive(connection: impl Future<Output = Result<(), tokio_postgres::Error>>) {
    if let Err(error) = connection.await {
        tracing::debug!(%error, "connection to the source ended");
    }
}

fn client_config(source: &SourceSettings) -> Result<ClientConfig, Error> {
    let failed = |text: String| Error::Certificates { place: source.place(), text };
    let mut roots = RootCertStore::empty();
    match &source.ca {
        Some(path) => {
            let read = CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|error| failed(format!("{}: {error}", path.display())))?;
            if roots.add_parsable_certificates(read).0 == 0 {
                return Err(failed(format!("{}: no certificate in it", path.display())));
            }
        }
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.to_string()))?;
    Ok(match source.tls {
        TlsMode::VerifyFull => builder.with_root_certificates(roots).with_no_client_auth(),
        TlsMode::VerifyCa => {
            let inner =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                    .build()
                    .map_err(|error| failed(error.to_string()))?;
            let verifier = Lenient { provider, chain: Some(inner) };
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(verifier))
                .with_no_client_auth()
        }
        TlsMode::Disable | TlsMode::Prefer | TlsMode::Require => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Lenient { provider, chain: None }))
            .with_no_client_auth(),
    })
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
