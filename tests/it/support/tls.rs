//! TLS on the other side of the proxy, by rustls: a client that sends bytes.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};

use super::client::{Client, dial};
use super::pki::Pair;

/// A connection that has shaken hands.
pub(crate) type Secure = StreamOwned<ClientConnection, TcpStream>;

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn roots(ca: &str) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for der in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        roots.add(der.unwrap()).unwrap();
    }
    Arc::new(roots)
}

/// A client that believes `ca` and shows `pair`.
pub(crate) fn client(ca: &str, pair: Option<&Pair>) -> ClientConfig {
    client_with(ca, pair, provider(), rustls::ALL_VERSIONS)
}

/// See [`client`].
pub(crate) fn client_with(
    ca: &str,
    pair: Option<&Pair>,
    provider: Arc<CryptoProvider>,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots(ca));
    match pair {
        Some(pair) => {
            let (chain, key) = pair.der();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
        None => builder.with_no_client_auth(),
    }
}

/// Shakes hands. In TLS 1.3 a client is told that it was refused only when it next reads.
pub(crate) fn connect(
    address: SocketAddr,
    name: &str,
    config: &Arc<ClientConfig>,
) -> io::Result<Client<Secure>> {
    shake(dial(address), name, config)
}

/// See [`connect`].
pub(crate) fn shake(
    mut tcp: TcpStream,
    name: &str,
    config: &Arc<ClientConfig>,
) -> io::Result<Client<Secure>> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut session = ClientConnection::new(Arc::clone(config), name).unwrap();
    while session.is_handshaking() {
        session.complete_io(&mut tcp)?;
    }
    Ok(Client::over(StreamOwned::new(session, tcp)))
}
