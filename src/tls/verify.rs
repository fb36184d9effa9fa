//! Which certificates of the other side are accepted.
//!
//! Owns the wrappers that ask for an identity after rustls' own verifiers said yes, and what a
//! refusal is called. Must not verify anything of a chain itself.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};

use super::identity::PeerIdentity;
use super::material::Revocations;
use crate::config::values::IdentityPattern;
use crate::telemetry::tls::HandshakeResult;

/// What is asked of clients.
#[derive(Debug)]
pub(crate) struct ClientPolicy {
    pub(crate) required: bool,
    pub(crate) allowed: Vec<IdentityPattern>,
}

/// The verifier for clients' certificates. Revocation is asked for the leaf only: lists of the
/// authorities above are rarely at hand. An expired list refuses.
///
/// # Errors
/// When a list of revoked certificates cannot be used.
pub(crate) fn clients(
    roots: &Arc<RootCertStore>,
    revocations: Option<&Revocations>,
    policy: ClientPolicy,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut builder =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), super::provider());
    if let Some(revocations) = revocations {
        builder = builder
            .with_crls(revocations.lists.iter().cloned())
            .only_check_end_entity_revocation()
            .enforce_revocation_expiration();
    }
    if !policy.required {
        builder = builder.allow_unauthenticated();
    }
    let inner = builder.build().map_err(|error| error.to_string())?;
    Ok(Arc::new(Clients {
        inner,
        allowed: policy.allowed,
    }))
}

/// The verifier for endpoints' certificates. With `identities`, one of them takes the place of the
/// server's name.
///
/// # Errors
/// When a list of revoked certificates cannot be used.
pub(crate) fn servers(
    roots: &Arc<RootCertStore>,
    revocations: Option<&Revocations>,
    identities: Vec<IdentityPattern>,
) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let mut builder =
        WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), super::provider());
    if let Some(revocations) = revocations {
        builder = builder
            .with_crls(revocations.lists.iter().cloned())
            .only_check_end_entity_revocation()
            .enforce_revocation_expiration();
    }
    let inner = builder.build().map_err(|error| error.to_string())?;
    if identities.is_empty() {
        return Ok(inner);
    }
    Ok(Arc::new(Servers { inner, identities }))
}

#[derive(Debug)]
struct Clients {
    inner: Arc<dyn ClientCertVerifier>,
    allowed: Vec<IdentityPattern>,
}

impl ClientCertVerifier for Clients {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(leaf, intermediates, now)?;
        let identity = PeerIdentity::of(leaf).map_err(|_| CertificateError::BadEncoding)?;
        if !self.allowed.is_empty()
            && !self
                .allowed
                .iter()
                .any(|allowed| identity.identity().matches(allowed))
        {
            let name = identity.identity().name();
            tracing::info!(name, "a client is none of `allowedIdentities`");
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[derive(Debug)]
struct Servers {
    inner: Arc<WebPkiServerVerifier>,
    identities: Vec<IdentityPattern>,
}

impl ServerCertVerifier for Servers {
    /// rustls compares the name last, after chain, usage, times and revocation; so where only the
    /// name is wrong, everything else is right. A test holds it to that.
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified =
            self.inner
                .verify_server_cert(leaf, intermediates, server_name, ocsp_response, now);
        match verified {
            Ok(_)
            | Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => {}
            Err(error) => return Err(error),
        }
        let identity = PeerIdentity::of(leaf).map_err(|_| CertificateError::BadEncoding)?;
        if self
            .identities
            .iter()
            .any(|wanted| identity.identity().matches(wanted))
        {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// What a failed handshake with a client is called.
pub(crate) fn result(error: &Error) -> HandshakeResult {
    use HandshakeResult as Result;
    match error {
        Error::NoCertificatesPresented => Result::NoCertificate,
        Error::NoApplicationProtocol => Result::NoProtocol,
        Error::PeerIncompatible(_) => Result::Version,
        Error::AlertReceived(_) => Result::ClientRefused,
        Error::InvalidMessage(_) => Result::NotTls,
        Error::InvalidCertRevocationList(_) => Result::RevocationUnknown,
        Error::InvalidCertificate(wrong) => match wrong {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Result::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Result::NotYetValid
            }
            CertificateError::Revoked => Result::Revoked,
            CertificateError::UnknownRevocationStatus
            | CertificateError::ExpiredRevocationList
            | CertificateError::ExpiredRevocationListContext { .. } => Result::RevocationUnknown,
            CertificateError::UnknownIssuer => Result::UnknownAuthority,
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Result::WrongUsage
            }
            CertificateError::ApplicationVerificationFailure => Result::IdentityRefused,
            _ => Result::BadCertificate,
        },
        _ => Result::Failed,
    }
}
