//! A client that sends bytes and reads one response by its framing.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::DEADLINE;

/// One connection.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

/// One response.
#[derive(Debug, Clone, Default)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, DEADLINE).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Self {
            stream: BufReader::new(stream),
        }
    }

    pub(crate) fn send(&mut self, bytes: &str) {
        self.stream.get_mut().write_all(bytes.as_bytes()).unwrap();
    }

    /// Closes the sending side.
    pub(crate) fn finish(&mut self) {
        self.stream
            .get_mut()
            .shutdown(std::net::Shutdown::Write)
            .unwrap();
    }

    /// Whether the other side has closed.
    pub(crate) fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]), Ok(0) | Err(_))
    }

    /// Raw bytes as they come.
    pub(crate) fn read_exactly(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// The next response; `None` when the connection ends before one. A body that breaks off is an
    /// error of the test unless it is asked for with [`Client::try_receive`].
    pub(crate) fn receive(&mut self, head_only: bool) -> Option<Response> {
        self.try_receive(head_only).unwrap()
    }

    pub(crate) fn try_receive(&mut self, head_only: bool) -> std::io::Result<Option<Response>> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).unwrap_or(0) == 0 {
            return Ok(None);
        }
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        let mut response = Response {
            status,
            ..Response::default()
        };
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else {
                break;
            };
            response
                .headers
                .push((name.to_lowercase(), value.trim().to_owned()));
        }
        if head_only || status < 200 || status == 204 || status == 304 {
            return Ok(Some(response));
        }
        let mut body = Vec::new();
        if response.header("transfer-encoding") == Some("chunked") {
            loop {
                line.clear();
                if self.stream.read_line(&mut line)? == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
                let size = usize::from_str_radix(line.trim(), 16).unwrap();
                let mut chunk = vec![0; size + 2];
                if size == 0 {
                    // Trailers, up to the empty line.
                    loop {
                        line.clear();
                        self.stream.read_line(&mut line)?;
                        let Some((name, value)) = line.trim_end().split_once(':') else {
                            break;
                        };
                        response
                            .headers
                            .push((name.to_lowercase(), value.trim().to_owned()));
                    }
                    break;
                }
                self.stream.read_exact(&mut chunk)?;
                body.extend_from_slice(&chunk[..size]);
            }
        } else if let Some(length) = response.header("content-length") {
            body = vec![0; length.parse().unwrap()];
            self.stream.read_exact(&mut body)?;
        } else {
            self.stream.read_to_end(&mut body)?;
        }
        response.body = String::from_utf8(body).unwrap();
        Ok(Some(response))
    }
}

/// One request on a connection of its own.
pub(crate) fn get(
    address: SocketAddr,
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Response {
    request(address, "GET", host, path, headers)
}

/// See [`get`].
pub(crate) fn request(
    address: SocketAddr,
    method: &str,
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Response {
    let fields: String = headers
        .iter()
        .map(|(n, v)| format!("{n}: {v}\r\n"))
        .collect();
    let mut client = Client::connect(address);
    client.send(&format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{fields}\r\n"
    ));
    client.receive(method == "HEAD").unwrap()
}
