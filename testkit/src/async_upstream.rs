//! An upstream on loopback, on the runtime of the test, which controls its answers.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
    task::JoinSet,
};

/// Action in response to a query.
pub enum Say {
    /// Send this back.
    Send(Vec<u8>),
    /// Send this from another port than the one asked.
    SendFromElsewhere(Vec<u8>),
}

/// Protocol that a query came over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    Udp,
    Tcp,
}

/// Function from a query and its protocol to the actions.
type Script = dyn Fn(&[u8], Over) -> Vec<Say> + Send + Sync;

/// A running upstream; ends when dropped.
pub struct FakeUpstream {
    pub address: SocketAddr,
    asked: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl FakeUpstream {
    /// Starts an upstream on a free port.
    pub async fn start(script: impl Fn(&[u8], Over) -> Vec<Say> + Send + Sync + 'static) -> Self {
        let script: Arc<Script> = Arc::new(script);
        let asked = Arc::new(AtomicUsize::new(0));
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            // Another test may have the TCP port of the same number.
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_udp(udp, script.clone(), asked.clone()));
        tasks.spawn(serve_tcp(tcp, script, asked.clone()));
        FakeUpstream { address, asked, _tasks: tasks }
    }

    /// Starts an upstream that answers every question with an A record of 192.0.2.1 and this TTL.
    pub async fn answering(ttl: u32) -> Self {
        Self::start(move |query, _| vec![Say::Send(a_record(query, ttl))]).await
    }

    /// Returns the number of queries received.
    pub fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }
}

async fn serve_udp(socket: UdpSocket, script: Arc<Script>, asked: Arc<AtomicUsize>) {
    let elsewhere = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut buffer = [0; 4096];
    while let Ok((len, client)) = socket.recv_from(&mut buffer).await {
        asked.fetch_add(1, SeqCst);
        for say in script(&buffer[..len], Over::Udp) {
            let sent = match say {
                Say::Send(message) => socket.send_to(&message, client).await,
                Say::SendFromElsewhere(message) => elsewhere.send_to(&message, client).await,
            };
            // The client may have its answer already and be gone.
            let _ = sent;
        }
    }
}

async fn serve_tcp(listener: TcpListener, script: Arc<Script>, asked: Arc<AtomicUsize>) {
    let mut connections = JoinSet::new();
    while let Ok((mut stream, _)) = listener.accept().await {
        let (script, asked) = (script.clone(), asked.clone());
        connections.spawn(async move {
            while let Ok(len) = stream.read_u16().await {
                let mut query = vec![0; usize::from(len)];
                if stream.read_exact(&mut query).await.is_err() {
                    return;
                }
                asked.fetch_add(1, SeqCst);
                for say in script(&query, Over::Tcp) {
                    let Say::Send(message) = say else { continue };
                    let mut framed = (message.len() as u16).to_be_bytes().to_vec();
                    framed.extend_from_slice(&message);
                    if stream.write_all(&framed).await.is_err() {
                        return;
                    }
                }
            }
        });
    }
}

/// Returns the query's ID and its question.
fn parts(query: &[u8]) -> (&[u8], &[u8]) {
    let name_end = 12 + query[12..].iter().position(|b| *b == 0).expect("a name that ends") + 1;
    (&query[..2], &query[12..name_end + 4])
}

/// Returns a response to `query` with these flags besides QR, RD and RA, and these answer records.
pub fn response(query: &[u8], flags: u16, answers: &[&[u8]]) -> Vec<u8> {
    let (id, question) = parts(query);
    let mut message = id.to_vec();
    for word in [0x8180 | flags, 1, answers.len() as u16, 0, 0] {
        message.extend_from_slice(&word.to_be_bytes());
    }
    message.extend_from_slice(question);
    answers.iter().for_each(|record| message.extend_from_slice(record));
    message
}

/// Returns a response to `query` with an A record of 192.0.2.1.
pub fn a_record(query: &[u8], ttl: u32) -> Vec<u8> {
    let [t3, t2, t1, t0] = ttl.to_be_bytes();
    response(query, 0, &[&[0xc0, 12, 0, 1, 0, 1, t3, t2, t1, t0, 0, 4, 192, 0, 2, 1]])
}
