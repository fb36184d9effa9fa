//! Where the admin listeners accept: TCP addresses, and a Unix socket that only its owner may open.
//!
//! Must not know what is asked there.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::either::Either;

/// A listening socket.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    Unix(UnixSocket),
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(super) enum Peer {
    Address(SocketAddr),
    /// A process that may open the Unix socket.
    Local,
}

impl Socket {
    /// Binds a Unix socket with mode 0600. One that a dead process has left behind is replaced.
    ///
    /// # Errors
    /// What the kernel says, or that another process listens there.
    pub(super) fn unix(path: &Path) -> io::Result<Self> {
        let left = std::fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket());
        if left {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            std::fs::remove_file(path)?;
        }
        let socket = UnixSocket {
            listener: UnixListener::bind(path)?,
            path: path.to_owned(),
        };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self::Unix(socket))
    }

    /// The next connection.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) async fn accept(&self) -> io::Result<(Either<TcpStream, UnixStream>, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Either::Left(stream), Peer::Address(peer)))
            }
            Self::Unix(socket) => {
                let (stream, _) = socket.listener.accept().await?;
                Ok((Either::Right(stream), Peer::Local))
            }
        }
    }
}

/// A Unix socket, and the file that goes away with it.
#[derive(Debug)]
pub(super) struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        // Whoever has removed it already has done the same.
        drop(std::fs::remove_file(&self.path));
    }
}
