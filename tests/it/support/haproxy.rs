//! A real HAProxy on a free port, with whatever it is told to do.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

/// Killed when dropped.
pub(crate) struct Haproxy {
    child: Child,
    pub(crate) address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Haproxy {
    /// Starts with the lines of one `listen` section, and accepts with the options of `bind`. Paths
    /// in them that begin with `./` are those of `files`, by name.
    pub(crate) fn start(bind: &str, lines: &str, files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        // Its standard input is the listening socket, so that the port is known and nobody takes it.
        let config = format!(
            "defaults\n mode http\n timeout connect 5s\n timeout client 20s\n timeout server 20s\n\
             listen test\n bind fd@0 {bind}\n{lines}\n"
        );
        let file = folder.path().join("haproxy.cfg");
        std::fs::write(&file, config).unwrap();
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let path = std::env::var("PATH").unwrap_or_default();
        let child = Command::new("haproxy")
            // Debian has it where not everybody looks.
            .env("PATH", format!("{path}:/usr/sbin"))
            .current_dir(folder.path())
            .args(["-db", "-f"])
            .arg(&file)
            .stdin(Stdio::from(OwnedFd::from(socket)))
            .spawn()
            .expect("install the Debian package haproxy");
        Self {
            child,
            address,
            _folder: folder,
        }
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        // It may have refused its configuration; then the test has failed already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
