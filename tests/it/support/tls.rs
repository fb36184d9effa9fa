//! TLS on the other side of the proxy, by rustls: a client that sends bytes, and a backend.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConfig, StreamOwned,
    SupportedProtocolVersion,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::client::{Client, dial};
use super::pki::Pair;
use super::{http2, serve_each};

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

/// A connection for HTTP/2, driven by the runtime of the caller.
pub(crate) async fn connect_http2(
    address: SocketAddr,
    name: &str,
    mut config: ClientConfig,
) -> hyper::client::conn::http2::SendRequest<http2::Body> {
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp);
    http2::begin(stream.await.unwrap()).await
}

/// The configuration of a server that shows `pair`, and asks for certificates of `ca` where given.
pub(crate) fn server(pair: &Pair, ca: Option<&str>, alpn: &[&str]) -> ServerConfig {
    server_with(pair, ca, alpn, rustls::ALL_VERSIONS)
}

/// See [`server`].
pub(crate) fn server_with(
    pair: &Pair,
    ca: Option<&str>,
    alpn: &[&str],
    versions: &[&'static SupportedProtocolVersion],
) -> ServerConfig {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap();
    let builder = match ca {
        Some(ca) => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(roots(ca), provider())
                .build()
                .unwrap(),
        ),
        None => builder.with_no_client_auth(),
    };
    let (chain, key) = pair.der();
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

/// What a backend saw of a handshake that went well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shaken {
    /// The name that was asked for.
    pub(crate) name: Option<String>,
    pub(crate) alpn: Option<String>,
    pub(crate) resumed: bool,
    /// Whether the other side showed a certificate.
    pub(crate) certificate: bool,
}

/// A backend that speaks TLS. Its thread ends with the test's process.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    handshakes: Arc<Mutex<Vec<Shaken>>>,
}

impl Backend {
    /// The handshakes that went well, in order.
    pub(crate) fn handshakes(&self) -> Vec<Shaken> {
        self.handshakes.lock().unwrap().clone()
    }
}

/// Answers with the request that it saw, by the version of HTTP that was agreed on.
pub(crate) fn backend(name: &'static str, config: ServerConfig) -> Backend {
    let handshakes = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&handshakes);
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let address = serve_each(move |tcp| {
        let (acceptor, seen) = (acceptor.clone(), Arc::clone(&seen));
        async move {
            match acceptor.accept(tcp).into_fallible().await {
                Ok(stream) => serve(name, stream, &seen).await,
                // Closing over unread bytes would reset the connection, and the alert with it.
                Err((_, mut tcp)) => {
                    drop(tokio::io::copy(&mut tcp, &mut tokio::io::sink()).await);
                }
            }
        }
    });
    Backend {
        address,
        handshakes,
    }
}

async fn serve(
    name: &'static str,
    stream: tokio_rustls::server::TlsStream<tokio::net::TcpStream>,
    seen: &Mutex<Vec<Shaken>>,
) {
    let session = stream.get_ref().1;
    let alpn = session.alpn_protocol().map(<[u8]>::to_vec);
    let alpn = alpn.map(|name| String::from_utf8(name).unwrap());
    seen.lock().unwrap().push(Shaken {
        name: session.server_name().map(str::to_owned),
        alpn: alpn.clone(),
        resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
        certificate: session.peer_certificates().is_some(),
    });
    let service = hyper::service::service_fn(move |request| http2::echo(name, request));
    // How the other side ends is its own matter.
    if alpn.as_deref() == Some("h2") {
        drop(
            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await,
        );
    } else {
        drop(
            hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await,
        );
    }
}
