//! A client that sends bytes and reads one response by its framing.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::DEADLINE;

/// One connection, in the clear unless it says otherwise.
pub(crate) struct Client<S: Read = TcpStream> {
    stream: BufReader<S>,
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

impl Response {
    /// Every value of a field, in order.
    pub(crate) fn headers(&self, name: &str) -> Vec<&str> {
        let of = self.headers.iter().filter(|(n, _)| n == name);
        of.map(|(_, v)| v.as_str()).collect()
    }

    /// The values of a field of the request that an echoing backend saw, joined with commas.
    pub(crate) fn seen(&self, name: &str) -> Option<String> {
        let head = self.body.split("\r\n\r\n").next().unwrap_or_default();
        let values: Vec<_> = head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.trim())
            .collect();
        (!values.is_empty()).then(|| values.join(","))
    }

    /// The target of the request that an echoing backend saw.
    pub(crate) fn seen_target(&self) -> &str {
        self.body.split(' ').nth(1).unwrap_or_default()
    }

    /// The backend that answered, else the status.
    pub(crate) fn who(&self) -> String {
        let name = self.header("x-backend");
        name.map_or_else(|| self.status.to_string(), str::to_owned)
    }
}

/// A TCP connection on which nothing waits for ever.
pub(crate) fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, DEADLINE).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::over(dial(address))
    }

    /// Closes the sending side.
    pub(crate) fn finish(&mut self) {
        self.stream
            .get_mut()
            .shutdown(std::net::Shutdown::Write)
            .unwrap();
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset(self) {
        let socket = socket2::SockRef::from(self.stream.get_ref());
        socket.set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }
}

impl<S: Read + Write> Client<S> {
    pub(crate) fn over(stream: S) -> Self {
        Self {
            stream: BufReader::new(stream),
        }
    }

    /// What the bytes go over.
    pub(crate) fn stream(&self) -> &S {
        self.stream.get_ref()
    }

    pub(crate) fn send(&mut self, bytes: &str) {
        self.stream.get_mut().write_all(bytes.as_bytes()).unwrap();
    }

    /// Sends a request and reads its response.
    pub(crate) fn ask(&mut self, request: &str) -> Response {
        self.send(request);
        self.receive(request.starts_with("HEAD ")).unwrap()
    }

    /// Sends as long as the other side takes it; `false` when it has closed.
    pub(crate) fn try_send(&mut self, bytes: &str) -> bool {
        self.stream.get_mut().write_all(bytes.as_bytes()).is_ok()
    }

    /// Whether the other side closes. Silence until the deadline is not a close.
    pub(crate) fn is_closed(&mut self) -> bool {
        match self.stream.read(&mut [0]) {
            Ok(count) => count == 0,
            Err(error) => gone(&error),
        }
    }

    /// Raw bytes as they come.
    pub(crate) fn read_exactly(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Everything up to the close.
    pub(crate) fn read_to_close(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Err(error) if !gone(&error) => panic!("never closed: {error}"),
            _ => bytes,
        }
    }

    /// The next response; `None` when the connection ends before one. A body that breaks off is an
    /// error of the test unless it is asked for with [`Client::try_receive`].
    pub(crate) fn receive(&mut self, head_only: bool) -> Option<Response> {
        self.try_receive(head_only).unwrap()
    }

    /// The next final response, behind the informational ones before it.
    pub(crate) fn receive_final(&mut self, head_only: bool) -> std::io::Result<Option<Response>> {
        loop {
            match self.try_receive(head_only)? {
                Some(interim) if interim.status < 200 && interim.status != 101 => {}
                received => return Ok(received),
            }
        }
    }

    pub(crate) fn try_receive(&mut self, head_only: bool) -> std::io::Result<Option<Response>> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => return Ok(None),
            Err(error) if gone(&error) => return Ok(None),
            read => read?,
        };
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
        // What is no text is shown a character a byte.
        response.body = String::from_utf8(body)
            .unwrap_or_else(|other| other.as_bytes().iter().map(|b| char::from(*b)).collect());
        Ok(Some(response))
    }
}

/// Whether the other side has ended the connection, politely or not.
fn gone(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
    matches!(error.kind(), ConnectionReset | BrokenPipe)
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
