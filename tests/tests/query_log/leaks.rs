//! Tests for leaks of other log shippers: responses that are not read, and unbounded connections to
//! ClickHouse.

use super::{Log, shipping};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// Most connections open at once, as seen by the server. There is one at a time, but on a busy
/// machine its threads notice closed connections late.
const LATE: usize = 8;

/// Response to a request.
#[derive(Clone, Copy)]
enum Body {
    /// A body of this many bytes.
    Long(usize),
    /// A byte now and then, without end.
    Endless,
}

#[derive(Default)]
struct Seen {
    requests: AtomicUsize,
    open: AtomicUsize,
    most_open: AtomicUsize,
    /// Responses that were read to their end before the connection closed.
    read: AtomicUsize,
}

/// Starts a server that accepts every row, and responds to each INSERT with a body.
fn server(body: Body) -> (SocketAddr, Arc<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Arc::<Seen>::default());
    let shared = seen.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let seen = shared.clone();
            thread::spawn(move || {
                let open = seen.open.fetch_add(1, Ordering::SeqCst) + 1;
                seen.most_open.fetch_max(open, Ordering::SeqCst);
                // A client that disconnected early has not read the response.
                let read = serve(&stream, body);
                seen.read.fetch_add(usize::from(read.is_ok()), Ordering::SeqCst);
                seen.open.fetch_sub(1, Ordering::SeqCst);
                seen.requests.fetch_add(1, Ordering::SeqCst);
            });
        }
    });
    (address, seen)
}

fn serve(mut stream: &TcpStream, body: Body) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut insert, mut length) = (None, 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        insert.get_or_insert(line.contains("query=INSERT"));
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap_or(0);
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut sent = vec![0; length];
    reader.read_exact(&mut sent)?;
    match body {
        _ if insert != Some(true) => {
            let version = if sent.starts_with(b"SELECT version()") { "26.9.1\n" } else { "" };
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{version}", version.len())?;
        }
        Body::Long(length) => {
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n")?;
            // Any other byte would be an error message of the server's.
            stream.write_all(&vec![b'\n'; length])?;
        }
        Body::Endless => {
            write!(stream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
            loop {
                stream.write_all(b"1\r\n.\r\n")?;
                thread::sleep(std::time::Duration::from_millis(20));
            }
        }
    }
    // The client closes the connection after reading. Closing earlier would cause a reset.
    reader.read_to_end(&mut Vec::new()).map(drop)
}

#[test]
fn answers_are_read_to_their_end_and_connections_are_closed() {
    let spool = tempfile::tempdir().unwrap();
    let (address, seen) = server(Body::Long(200_000));
    let mut log =
        Log::start("drained", shipping(&format!("http://{address}"), spool.path(), &password(&spool)));
    for _ in 0..50 {
        log.give(4_000);
    }
    log.until_stored();
    log.finish();
    super::until("all connections are closed", || (seen.open.load(Ordering::SeqCst) == 0).then_some(()));
    let [requests, read, most] =
        [&seen.requests, &seen.read, &seen.most_open].map(|count| count.load(Ordering::SeqCst));
    assert!(requests > 50, "{requests}");
    assert!(read == requests && most <= LATE, "{read} of {requests} read, {most} at once");
}

#[test]
fn an_answer_without_an_end_is_given_up_and_its_connection_with_it() {
    let spool = tempfile::tempdir().unwrap();
    let (address, seen) = server(Body::Endless);
    let mut log =
        Log::start("endless", shipping(&format!("http://{address}"), spool.path(), &password(&spool)));
    log.give(8_000);
    let sums = log.until("it is given up", |sums| sums.attempts_failed > 1);
    assert_eq!((sums.stored, sums.dropped()), (0, 0));
    let sums = log.finish();
    assert_eq!((sums.spooled, sums.unaccounted()), (8_000, 0));
    super::until("all connections are closed", || (seen.open.load(Ordering::SeqCst) == 0).then_some(()));
    assert!(seen.most_open.load(Ordering::SeqCst) <= LATE);
}

fn password(folder: &tempfile::TempDir) -> std::path::PathBuf {
    let file = folder.path().join("password");
    std::fs::write(&file, "secret").unwrap();
    file
}
