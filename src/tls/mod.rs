//! TLS on either side: keys and certificates, who is believed, handshakes, and who the peer is.
//!
//! Owns everything between a TCP stream and the bytes of HTTP. Must not know HTTP, routes or
//! listeners' addresses.

pub(crate) mod stream;

pub(crate) mod client;
pub(crate) mod server;

pub(crate) mod identity;
pub(crate) mod verify;

pub(crate) mod certificate;
pub(crate) mod files;
pub(crate) mod material;

use std::sync::Arc;

use rustls::SupportedProtocolVersion;
use rustls::crypto::CryptoProvider;
use rustls::version::{TLS12, TLS13};

/// The one implementation of cryptography. Post-quantum key exchange is preferred where the peer
/// has it (X25519MLKEM768).
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::OnceLock<Arc<CryptoProvider>> = std::sync::OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider())))
}

/// The versions of TLS that are spoken from `oldest` on.
pub(crate) fn versions(oldest: Oldest) -> &'static [&'static SupportedProtocolVersion] {
    static FROM_12: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
    static FROM_13: [&SupportedProtocolVersion; 1] = [&TLS13];
    match oldest {
        Oldest::Tls12 => &FROM_12,
        Oldest::Tls13 => &FROM_13,
    }
}

/// The oldest version of TLS that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Oldest {
    Tls12,
    Tls13,
}
