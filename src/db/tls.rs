//! TLS to the database. Where it is used, the server's certificate is always verified.

use std::error::Error;
use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;
use x509_cert::der::{Decode, oid::db::rfc4519::COMMON_NAME};
use x509_cert::{Certificate, ext::pkix::SubjectAltName};

/// TLS for `tokio_postgres::Config::connect`. Trusts the `given` certificates besides Mozilla's roots; with
/// `verifies_only_chain` these alone, for a host of any name.
///
/// # Errors
/// When one of them is no certificate.
pub fn connector(
    given: Vec<CertificateDer<'static>>,
    verifies_only_chain: bool,
    is_direct: bool,
) -> Result<MakeRustlsConnect, String> {
    let verifies_name = !verifies_only_chain || given.is_empty();
    let mut roots = RootCertStore::empty();
    if verifies_name {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    for certificate in &given {
        roots.add(certificate.clone()).map_err(|error| format!("has a CA that cannot be used: {error}"))?;
    }
    let webpki = WebPkiServerVerifier::builder(Arc::new(roots)).build().map_err(|error| error.to_string())?;
    let mut config = ClientConfig::builder()
        .dangerous() // that is what rustls calls a verifier of one's own
        .with_custom_certificate_verifier(Arc::new(Verifier { webpki, given, verifies_name }))
        .with_no_client_auth();
    if is_direct {
        config.alpn_protocols = vec![b"postgresql".to_vec()]; // PostgreSQL 17 asks for it
    }
    Ok(MakeRustlsConnect::new(config))
}

/// The certificates in a text in PEM.
///
/// # Errors
/// When the text is not PEM or has no certificate. The message follows the name of the file.
pub fn read_certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    match CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if certificates.is_empty() => Err("has no certificate in PEM".to_owned()),
        certificates => certificates.map_err(|error| format!("is not PEM: {error}")),
    }
}

/// Verifies as webpki does, and also trusts the server's own certificate if it is given. The one that PostgreSQL's
/// manual makes is self-signed, and webpki refuses it as a CA's.
#[derive(Debug)]
struct Verifier {
    webpki: Arc<WebPkiServerVerifier>,
    given: Vec<CertificateDer<'static>>,
    verifies_name: bool,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use CertificateError::{BadEncoding, NotValidForName, NotValidForNameContext};
        let verified = if self.given.contains(own) {
            let parsed = ParsedCertificate::try_from(own)?;
            let own = Certificate::from_der(own).map_err(|_| BadEncoding)?;
            verify_time(&own, now)?;
            if has_common_name(&own, name) { Ok(()) } else { verify_server_name(&parsed, name) }
        } else {
            self.webpki.verify_server_cert(own, intermediates, name, ocsp_response, now).map(drop)
        };
        match verified {
            // webpki looks at the name last: all else is in order.
            Err(rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }))
                if !self.verifies_name => {}
            verified => verified?,
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

fn verify_time(certificate: &Certificate, now: UnixTime) -> Result<(), CertificateError> {
    let validity = &certificate.tbs_certificate.validity;
    match now.as_secs() {
        now if now < validity.not_before.to_unix_duration().as_secs() => Err(CertificateError::NotValidYet),
        now if now > validity.not_after.to_unix_duration().as_secs() => Err(CertificateError::Expired),
        _ => Ok(()),
    }
}

/// Whether this is the common name of a certificate that has no `subjectAltName`.
fn has_common_name(certificate: &Certificate, name: &ServerName<'_>) -> bool {
    let certificate = &certificate.tbs_certificate;
    let mut subject = certificate.subject.0.iter().flat_map(|part| part.0.iter());
    let is_named = subject
        .any(|part| part.oid == COMMON_NAME && part.value.value().eq_ignore_ascii_case(name.to_str().as_bytes()));
    is_named && matches!(certificate.get::<SubjectAltName>(), Ok(None))
}

/// The error by which TLS failed; none for other failures.
pub fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    // `source` of an `io::Error` skips the error in it, so look at that one first.
    let inner = error.downcast_ref().and_then(io::Error::get_ref).map(|inner| inner as &(dyn Error + 'static));
    error.downcast_ref().or_else(|| tls_error(inner.or_else(|| error.source())?))
}

/// Why the server's certificate is not accepted, and what to do about it; none for other failures.
pub fn explain(error: &(dyn Error + 'static)) -> Option<String> {
    use CertificateError::*;
    let rustls::Error::InvalidCertificate(reason) = tls_error(error)? else { return None };
    let why = match reason {
        UnknownIssuer => "its CA is unknown: set DATABASE_CA_FILE to a file with the CA's certificate".to_owned(),
        NotValidForNameContext { presented, .. } if presented.is_empty() => {
            "it has no subjectAltName: make one with it, or set DATABASE_CA_FILE to a file with this certificate \
             if its common name is the host's name"
                .to_owned()
        }
        NotValidForNameContext { presented, .. } => {
            format!("it is not for the host in the URL, but for {}", presented.join(", "))
        }
        Expired | ExpiredContext { .. } => "it has expired".to_owned(),
        NotValidYet | NotValidYetContext { .. } => "it is not valid yet, or the clock is wrong".to_owned(),
        other => format!(
            "{other}; set DATABASE_CA_FILE to a file with it if it is self-signed, make it anew with a \
             subjectAltName if it is of X.509 version 1"
        ),
    };
    Some(format!("the database's certificate is not accepted: {why}"))
}
