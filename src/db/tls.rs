//! TLS to the database. Where it is used, the server's certificate is always verified.

use std::error::Error;
use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{self, CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::oid::db::rfc4519::COMMON_NAME;
use x509_cert::ext::pkix::SubjectAltName;

/// What of a server's certificate is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// That a certificate given by the operator has signed it (`verify-ca`).
    Chain,
    /// That one of those or of Mozilla's roots has signed it, and that it is the host's.
    Name,
}

/// How TLS is done on each connection to the database.
#[derive(Clone)]
pub struct Tls {
    connector: MakeRustlsConnect,
    allows_fallback: bool,
}

impl Tls {
    /// Trusts the `given` certificates besides Mozilla's roots.
    ///
    /// # Errors
    /// When one of them is no certificate.
    pub fn new(
        verify: Verify,
        given: Vec<CertificateDer<'static>>,
        allows_fallback: bool,
        is_direct: bool,
    ) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        if verify == Verify::Name {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        for certificate in &given {
            roots
                .add(certificate.clone())
                .map_err(|error| format!("has a CA that cannot be used: {error}"))?;
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = Verifier { roots, given, verify, provider: Arc::clone(&provider) };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        if is_direct {
            config.alpn_protocols = vec![b"postgresql".to_vec()]; // PostgreSQL 17 asks for it
        }
        Ok(Self { connector: MakeRustlsConnect::new(config), allows_fallback })
    }

    /// For `tokio_postgres::Config::connect`.
    pub fn connector(&self) -> MakeRustlsConnect {
        self.connector.clone()
    }

    /// Whether a connection without TLS may follow one whose TLS has failed (`sslmode=prefer`).
    pub fn allows_fallback(&self) -> bool {
        self.allows_fallback
    }
}

/// The certificates in a text in PEM.
///
/// # Errors
/// When there is none, or something else. To be read after the name of the file.
pub fn read_certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err("has no certificate in PEM".to_owned()),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(format!("is not PEM: {error}")),
    }
}

/// Verifies as webpki does. A server's own certificate that is among the given ones is trusted, too: PostgreSQL's manual makes one
/// that has signed itself, which webpki refuses as that of a CA.
#[derive(Debug)]
struct Verifier {
    roots: RootCertStore,
    given: Vec<CertificateDer<'static>>,
    verify: Verify,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let pinned = self.given.contains(end_entity).then(|| Certificate::from_der(end_entity));
        let pinned = pinned.transpose().map_err(|_| CertificateError::BadEncoding)?;
        match &pinned {
            Some(pinned) => verify_time(pinned, now)?,
            None => verify_server_cert_signed_by_trust_anchor(
                &certificate,
                &self.roots,
                intermediates,
                now,
                self.provider.signature_verification_algorithms.all,
            )?,
        }
        if self.verify == Verify::Name {
            verify_server_name(&certificate, server_name).or_else(|error| {
                let is_named = pinned.is_some_and(|pinned| has_common_name(&pinned, server_name));
                if is_named { Ok(()) } else { Err(error) }
            })?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn verify_time(certificate: &Certificate, now: UnixTime) -> Result<(), CertificateError> {
    let validity = &certificate.tbs_certificate.validity;
    let now = now.as_secs();
    if now < validity.not_before.to_unix_duration().as_secs() {
        return Err(CertificateError::NotValidYet);
    }
    if now > validity.not_after.to_unix_duration().as_secs() {
        return Err(CertificateError::Expired);
    }
    Ok(())
}

/// Whether a certificate without other names has this common name.
fn has_common_name(certificate: &Certificate, name: &ServerName<'_>) -> bool {
    let certificate = &certificate.tbs_certificate;
    let subject = certificate.subject.0.iter().flat_map(|names| names.0.iter());
    matches!(certificate.get::<SubjectAltName>(), Ok(None))
        && subject
            .filter(|attribute| attribute.oid == COMMON_NAME)
            .any(|attribute| attribute.value.value().eq_ignore_ascii_case(name.to_str().as_bytes()))
}

/// What TLS has to do with the failure of a connection.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // The source of an `io::Error` is that of the error in it.
        let inner = error.downcast_ref().and_then(io::Error::get_ref);
        next = inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source());
    }
    None
}

/// Whether a connection failed in the TLS handshake, or later by TLS.
pub fn is_tls_error(error: &(dyn Error + 'static)) -> bool {
    tls_error(error).is_some()
}

/// Why the server's certificate is not accepted, and what to do about it; none for other failures.
pub fn explain(error: &(dyn Error + 'static)) -> Option<String> {
    use CertificateError as Reason;
    let rustls::Error::InvalidCertificate(reason) = tls_error(error)? else { return None };
    Some(match reason {
        Reason::UnknownIssuer => {
            "the database's certificate is signed by an unknown CA: set DATABASE_CA_FILE, or sslrootcert in the \
             URL, to the file of that CA's certificate"
                .to_owned()
        }
        Reason::NotValidForName | Reason::NotValidForNameContext { .. } => {
            let names = match reason {
                Reason::NotValidForNameContext { presented, .. } if !presented.is_empty() => presented.join(", "),
                _ => "none: it needs a subjectAltName".to_owned(),
            };
            format!("the database's certificate is not for the host in the URL (its names: {names})")
        }
        Reason::Expired | Reason::ExpiredContext { .. } => "the database's certificate has expired".to_owned(),
        Reason::NotValidYet | Reason::NotValidYetContext { .. } => {
            "the database's certificate is not valid yet, or the clock is wrong".to_owned()
        }
        other => format!(
            "the database's certificate is not accepted ({other}): where it is self-signed, set DATABASE_CA_FILE, or \
             sslrootcert in the URL, to a file with this certificate"
        ),
    })
}
