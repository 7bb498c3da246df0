//! A name server whose zones are what the test says: true, hostile or silent. Over UDP and TCP on one port.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{CNAME, NAPTR, SOA, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

use super::server::Config;

/// What is said to one question.
pub enum Said {
    /// These records, of whatever type and name; if none of them has the name that is asked for, that it does not exist.
    Zone(Vec<Record>),
    /// These records, as they are.
    Records(Vec<Record>),
    /// An error.
    Error(ResponseCode),
    /// These bytes instead of a message.
    Bytes(Vec<u8>),
    /// The answer to another question.
    Forged(Vec<Record>),
    /// Nothing.
    Silence,
}

type Answers = Box<dyn Fn(&str, RecordType) -> Said + Send + Sync>;

/// Runs until dropped.
pub struct NameServer {
    pub address: SocketAddr,
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

impl NameServer {
    /// Knows exactly these records.
    pub fn of(records: Vec<Record>) -> NameServer {
        NameServer::start(move |_, _| Said::Zone(records.clone()))
    }

    /// - `answers`: gets the name (lower case, with its final dot) and the type.
    pub fn start(answers: impl Fn(&str, RecordType) -> Said + Send + Sync + 'static) -> NameServer {
        let (streams, datagrams) = (0..100)
            .find_map(|_| {
                let streams = TcpListener::bind("127.0.0.1:0").ok()?;
                let datagrams = UdpSocket::bind(streams.local_addr().ok()?).ok()?;
                Some((streams, datagrams))
            })
            .expect("one port for both");
        let address = datagrams.local_addr().expect("an address");
        let answers: Arc<Answers> = Arc::new(Box::new(answers));
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, answering, counted) = (stop.clone(), answers.clone(), asked.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((length, from)) = datagrams.recv_from(&mut buffer) else { continue };
                counted.fetch_add(1, Ordering::Relaxed);
                if let Some(mut answer) = answer(&buffer[..length], &answering) {
                    if answer.len() > DATAGRAM {
                        // The header, with TC: ask again over TCP.
                        answer = truncated(&buffer[..length]);
                    }
                    drop(datagrams.send_to(&answer, from));
                }
            }
        });
        let stopped = stop.clone();
        std::thread::spawn(move || {
            while let Ok((stream, _)) = streams.accept() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let answers = answers.clone();
                std::thread::spawn(move || converse(stream, &answers));
            }
        });
        NameServer { address, stop, asked }
    }

    /// Has the server under test ask here.
    pub fn serve(&self, config: &mut Config) {
        config.set("dns.servers", vec![self.address.to_string()]);
    }

    /// How many datagrams asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Both threads wait for something to come.
        drop(TcpStream::connect_timeout(&self.address, super::DEADLINE));
        if let Ok(socket) = UdpSocket::bind("127.0.0.1:0") {
            drop(socket.send_to(b"stop", self.address));
        }
    }
}

/// Answers what comes over one connection.
fn converse(mut stream: TcpStream, answers: &Arc<Answers>) {
    drop(stream.set_read_timeout(Some(super::DEADLINE)));
    let mut length = [0; 2];
    while stream.read_exact(&mut length).is_ok() {
        let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
        if stream.read_exact(&mut query).is_err() {
            return;
        }
        let Some(answer) = answer(&query, answers) else { continue };
        let length = u16::try_from(answer.len()).expect("fits").to_be_bytes();
        if stream.write_all(&[&length[..], &answer].concat()).is_err() {
            return;
        }
    }
}

fn answer(query: &[u8], answers: &Arc<Answers>) -> Option<Vec<u8>> {
    let query = Message::from_vec(query).ok()?;
    let question = query.queries.first()?.clone();
    let asked = question.name().to_ascii().to_ascii_lowercase();
    let mut answer = Message::response(query.metadata.id, OpCode::Query);
    answer.metadata.recursion_available = true;
    answer.queries = query.queries.clone();
    match answers(&asked, question.query_type()) {
        Said::Zone(records) => {
            let is_asked = |record: &&Record| record.name.to_ascii().to_ascii_lowercase() == asked;
            if !records.iter().any(|record| is_asked(&record)) {
                answer.metadata.response_code = ResponseCode::NXDomain;
                // For how long that may be remembered (RFC 2308 3).
                let soa = SOA::new(name("ns.example."), name("admin.example."), 1, 60, 60, 60, TTL_S);
                answer.authorities.push(Record::from_rdata(name("."), TTL_S, RData::SOA(soa)));
            }
            let fits = |record: &&Record| is_asked(record) && record.record_type() == question.query_type();
            answer.add_answers(records.iter().filter(fits).cloned());
        }
        Said::Records(records) => {
            answer.add_answers(records);
        }
        Said::Error(code) => answer.metadata.response_code = code,
        Said::Bytes(bytes) => return Some(bytes),
        Said::Forged(records) => {
            answer.metadata.id = query.metadata.id.wrapping_add(1);
            answer.add_answers(records);
        }
        Said::Silence => return None,
    }
    answer.to_vec().ok()
}

fn truncated(query: &[u8]) -> Vec<u8> {
    let query = Message::from_vec(query).expect("was read before");
    let mut answer = Message::response(query.metadata.id, OpCode::Query);
    answer.metadata.truncation = true;
    answer.queries = query.queries;
    answer.to_vec().expect("written")
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).expect("a name")
}

/// A or AAAA.
pub fn address(owner: &str, ip: impl Into<IpAddr>) -> Record {
    Record::from_rdata(name(owner), TTL_S, ip.into().into())
}

pub fn srv(owner: &str, priority: u16, port: u16, target: &str) -> Record {
    Record::from_rdata(name(owner), TTL_S, RData::SRV(SRV::new(priority, 1, port, name(target))))
}

pub fn cname(owner: &str, target: &str) -> Record {
    Record::from_rdata(name(owner), TTL_S, RData::CNAME(CNAME(name(target))))
}

pub fn naptr(owner: &str, flags: &str, service: &str, regexp: &str, target: &str) -> Record {
    let bytes = |text: &str| text.as_bytes().into();
    let data = NAPTR::new(1, 1, bytes(flags), bytes(service), bytes(regexp), name(target));
    Record::from_rdata(name(owner), TTL_S, RData::NAPTR(data))
}

const TTL_S: u32 = 60;
/// More than this goes over TCP.
const DATAGRAM: usize = 512;
