//! Serves streams: two threads a connection, so that queries are read while answers are delayed.

use super::{Over, STOP_CHECK, Shared, wait_readable};
use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

/// Most connections at once; further ones are closed immediately.
const CONNECTIONS: usize = 256;
/// Most answers that wait on one connection; at that number no more queries are read from it.
const PIPELINE: usize = 1024;
/// Time for which a connection may be silent (RFC 7766 section 6.2.3 advises a few seconds).
const IDLE: Duration = Duration::from_secs(10);

/// Accepts connections until told to stop.
pub(super) fn serve(listener: &TcpListener, shared: &Arc<Shared>) {
    if listener.set_nonblocking(true).is_err() {
        return;
    }
    let open = Arc::new(AtomicUsize::new(0));
    while !shared.stop.load(Relaxed) {
        wait_readable(listener, None);
        let Ok((stream, _)) = listener.accept() else { continue };
        if open.load(Relaxed) >= CONNECTIONS {
            continue;
        }
        open.fetch_add(1, Relaxed);
        let (shared, open) = (shared.clone(), open.clone());
        thread::spawn(move || {
            // An error means that the client closed the connection; there is nobody to tell.
            let _ = converse(stream, &shared);
            open.fetch_sub(1, Relaxed);
        });
    }
}

fn converse(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(STOP_CHECK))?;
    let mut out = stream.try_clone()?;
    let (waiting, due) = mpsc::sync_channel::<(Instant, Vec<u8>)>(PIPELINE);
    thread::scope(|scope| {
        scope.spawn(move || {
            for (due, framed) in due {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                if out.write_all(&framed).is_err() {
                    break;
                }
            }
        });
        let mut query = Vec::new();
        let mut reply = Vec::new();
        while read_message(&mut stream, &mut query, shared)? {
            shared.served.tcp.fetch_add(1, Relaxed);
            if !shared.answerer.answer(&query, Over::Tcp, &mut reply) {
                shared.served.unanswered.fetch_add(1, Relaxed);
                continue;
            }
            let framed = [&(reply.len() as u16).to_be_bytes(), reply.as_slice()].concat();
            if waiting.send((Instant::now() + shared.delay, framed)).is_err() {
                break;
            }
        }
        // Ends the writer, once it has written the waiting answers.
        drop(waiting);
        Ok(())
    })
}

/// Reads one message with its two bytes of length. Returns false at the end of the stream, after
/// silence, or on a stop.
fn read_message(stream: &mut TcpStream, message: &mut Vec<u8>, shared: &Shared) -> io::Result<bool> {
    let mut length = [0; 2];
    if !read_all(stream, &mut length, shared)? {
        return Ok(false);
    }
    message.resize(usize::from(u16::from_be_bytes(length)), 0);
    read_all(stream, message, shared)
}

fn read_all(stream: &mut TcpStream, mut buffer: &mut [u8], shared: &Shared) -> io::Result<bool> {
    let give_up = Instant::now() + IDLE;
    while !buffer.is_empty() {
        match stream.read(buffer) {
            Ok(0) => return Ok(false),
            Ok(read) => buffer = &mut buffer[read..],
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                if shared.stop.load(Relaxed) || Instant::now() > give_up {
                    return Ok(false);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}
