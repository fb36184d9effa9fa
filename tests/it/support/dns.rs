//! A DNS server that says what it is told to say, over UDP and TCP.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, SOA, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record};

/// What is done with a question.
#[derive(Debug, Clone, Default)]
pub(crate) enum Saying {
    /// The records of the name and type, or that there are none.
    #[default]
    Records,
    NoSuchName,
    Failure,
    Junk,
    Nothing,
}

/// A running server. Its threads end with the test's process.
#[derive(Debug)]
pub(crate) struct Dns {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By name, in lower case and without the last dot.
    records: Mutex<Vec<(String, RData)>>,
    saying: Mutex<Saying>,
    /// Of answers without records: the time to live of the zone's SOA record, and its MINIMUM.
    soa: Mutex<Option<(u32, u32)>>,
    questions: AtomicU64,
}

/// Longest answer over UDP; longer ones are asked for again over TCP.
const LONGEST: usize = 1200;

impl Dns {
    pub(crate) fn start() -> Self {
        let (udp, tcp) = super::eventually("a port for both", || {
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
            let tcp = TcpListener::bind(udp.local_addr().unwrap()).ok()?;
            Some((udp, tcp))
        });
        let state = Arc::<State>::default();
        let dns = Self {
            address: udp.local_addr().unwrap(),
            state: Arc::clone(&state),
        };
        let over_tcp = Arc::clone(&state);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, peer)) = udp.recv_from(&mut buffer) {
                if let Some(answer) = state.answer(&buffer[..length], true) {
                    drop(udp.send_to(&answer, peer));
                }
            }
        });
        std::thread::spawn(move || {
            for mut stream in tcp.incoming().flatten() {
                let mut length = [0; 2];
                if stream.read_exact(&mut length).is_err() {
                    continue;
                }
                let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
                if stream.read_exact(&mut question).is_ok()
                    && let Some(answer) = over_tcp.answer(&question, false)
                {
                    let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
                    drop(stream.write_all(&[&length[..], &answer].concat()));
                }
            }
        });
        dns
    }

    /// The name has these addresses, and no others.
    pub(crate) fn set(&self, name: &str, addresses: &[IpAddr]) {
        let data = addresses.iter().map(|address| match address {
            IpAddr::V4(address) => RData::A(A(*address)),
            IpAddr::V6(address) => RData::AAAA(AAAA(*address)),
        });
        self.put(name, data.collect());
    }

    /// The service has these targets: priority, weight, port, name.
    pub(crate) fn set_services(&self, name: &str, targets: &[(u16, u16, u16, &str)]) {
        let data = targets.iter().map(|(priority, weight, port, target)| {
            let target = Name::from_ascii(format!("{target}.")).unwrap();
            RData::SRV(SRV::new(*priority, *weight, *port, target))
        });
        self.put(name, data.collect());
    }

    fn put(&self, name: &str, data: Vec<RData>) {
        let mut records = self.state.records.lock().unwrap();
        records.retain(|(known, _)| known != name);
        records.extend(data.into_iter().map(|data| (name.to_owned(), data)));
    }

    pub(crate) fn say(&self, saying: Saying) {
        *self.state.saying.lock().unwrap() = saying;
    }

    /// Answers without records say for how long that is so (RFC 2308, 3).
    pub(crate) fn set_soa(&self, ttl: u32, minimum: u32) {
        *self.state.soa.lock().unwrap() = Some((ttl, minimum));
    }

    /// Questions that it has read.
    pub(crate) fn questions(&self) -> u64 {
        self.state.questions.load(Ordering::SeqCst)
    }
}

impl State {
    fn answer(&self, question: &[u8], bounded: bool) -> Option<Vec<u8>> {
        let asked = Message::from_vec(question).ok()?;
        let query = asked.queries.first()?.clone();
        self.questions.fetch_add(1, Ordering::SeqCst);
        let mut answer = Message::response(asked.metadata.id, asked.metadata.op_code);
        answer.queries.push(query.clone());
        answer.metadata.recursion_available = true;
        match self.saying.lock().unwrap().clone() {
            Saying::Records => {
                let name = query.name.to_ascii().to_lowercase();
                let records = self.records.lock().unwrap();
                let of = records.iter().filter(|(known, data)| {
                    known == name.trim_end_matches('.') && data.record_type() == query.query_type
                });
                // A time to live of 0: the proxy's own bounds decide.
                answer.answers = of
                    .map(|(_, data)| Record::from_rdata(query.name.clone(), 0, data.clone()))
                    .collect();
            }
            Saying::NoSuchName => answer.metadata.response_code = ResponseCode::NXDomain,
            Saying::Failure => answer.metadata.response_code = ResponseCode::ServFail,
            Saying::Junk => return Some(b"\xff\xff no answer at all".to_vec()),
            Saying::Nothing => return None,
        }
        if let (true, Some((ttl, minimum))) = (answer.answers.is_empty(), *self.soa.lock().unwrap())
        {
            let zone = Name::from_ascii("test.").unwrap();
            let data = SOA::new(zone.clone(), zone.clone(), 1, 3600, 600, 86400, minimum);
            let soa = Record::from_rdata(zone, ttl, RData::SOA(data));
            answer.authorities.push(soa);
        }
        let bytes = answer.to_vec().ok()?;
        if !bounded || bytes.len() <= LONGEST {
            return Some(bytes);
        }
        answer.answers.clear();
        answer.metadata.truncation = true;
        answer.to_vec().ok()
    }
}
