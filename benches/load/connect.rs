//! Connections to the proxy, with TLS or without.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Where to, and how.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Target {
    /// Address of the proxy.
    #[arg(long)]
    pub(crate) to: SocketAddr,
    /// TLS, believing the certificates in this file.
    #[arg(long)]
    ca: Option<PathBuf>,
    /// The name in the server's certificate.
    #[arg(long, default_value = "localhost")]
    name: String,
    /// The certificate to show.
    #[arg(long, requires = "key")]
    certificate: Option<PathBuf>,
    #[arg(long)]
    key: Option<PathBuf>,
}

/// Either kind of stream.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// Opens connections to one target.
#[derive(Clone)]
pub(crate) struct Connector {
    to: SocketAddr,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Target {
    /// # Errors
    /// When a file cannot be used.
    pub(crate) fn connector(&self) -> anyhow::Result<Connector> {
        let tls = self.ca.as_ref().map(|ca| self.tls(ca)).transpose()?;
        Ok(Connector { to: self.to, tls })
    }

    /// No resumption: each handshake is a whole one.
    fn tls(&self, ca: &PathBuf) -> anyhow::Result<(TlsConnector, ServerName<'static>)> {
        let mut roots = RootCertStore::empty();
        for der in CertificateDer::pem_file_iter(ca).context("ca")? {
            roots.add(der?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots);
        let mut config = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                let chain = CertificateDer::pem_file_iter(certificate)
                    .context("certificate")?
                    .collect::<Result<_, _>>()?;
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key)?)?
            }
            _ => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        let name = ServerName::try_from(self.name.clone())?;
        Ok((TlsConnector::from(Arc::new(config)), name))
    }
}

impl Connector {
    pub(crate) async fn tcp(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.to).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    pub(crate) async fn open(&self) -> io::Result<Box<dyn Duplex>> {
        let stream = self.tcp().await?;
        match &self.tls {
            None => Ok(Box::new(stream)),
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await?;
                Ok(Box::new(stream))
            }
        }
    }
}
