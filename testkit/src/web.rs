//! A web server whose responses a test controls, byte by byte.

use crate::Say;
use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    runtime::Builder,
    sync::oneshot,
    time::sleep,
};
use tokio_rustls::TlsAcceptor;

/// Longest head of a request in bytes.
const HEAD_MAX: usize = 16 << 10;

type Script = dyn Fn(&str) -> Vec<Say> + Send + Sync;

/// Scripted web server on the loopback of the real host. Ends on drop.
pub struct Web {
    address: SocketAddr,
    stage: Arc<Stage>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Stage {
    script: Box<Script>,
    tls: Option<TlsAcceptor>,
    heads: Mutex<Vec<String>>,
}

impl Web {
    /// Starts a server that calls `script` with the head of each request: its line and headers. Of
    /// [`Say`], the script uses `Bytes`, `BytesForEver`, `Pause` and `Close`. The connection is closed
    /// after the response.
    #[track_caller]
    pub fn start(
        tls: Option<TlsAcceptor>,
        script: impl Fn(&str) -> Vec<Say> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port for a web server");
        listener.set_nonblocking(true).expect("a socket that does not block");
        let address = listener.local_addr().expect("its address");
        let stage = Arc::new(Stage { script: Box::new(script), tls, heads: Mutex::default() });
        let (stop, stopped) = oneshot::channel();
        let shared = stage.clone();
        let thread = std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, shared) => {}
                    _ = stopped => {}
                }
            });
        });
        Web { address, stage, stop: Some(stop), thread: Some(thread) }
    }

    /// Returns the address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the heads of the requests received so far.
    pub fn heads(&self) -> Vec<String> {
        self.stage.heads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns a whole response with a status, further headers, each with its line end, and a body.
    pub fn response(status: &str, headers: &str, body: &[u8]) -> Say {
        let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n", body.len());
        Say::Bytes([head.as_bytes(), body].concat())
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has reported it.
            let _ = thread.join();
        }
    }
}

async fn serve(listener: TcpListener, stage: Arc<Stage>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    while let Ok((stream, _)) = listener.accept().await {
        let stage = stage.clone();
        tokio::spawn(async move {
            match &stage.tls {
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        converse(stream, &stage).await;
                    }
                }
                None => converse(stream, &stage).await,
            }
        });
    }
}

async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, stage: &Stage) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD_MAX {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    stage.heads.lock().unwrap_or_else(PoisonError::into_inner).push(head.clone());
    for say in (stage.script)(&head) {
        let written = match say {
            Say::Bytes(bytes) => stream.write_all(&bytes).await,
            Say::BytesForEver(bytes) => loop {
                if let Err(error) = stream.write_all(&bytes).await {
                    break Err(error);
                }
            },
            Say::Pause(time) => {
                sleep(time).await;
                Ok(())
            }
            Say::Close => break,
            other => panic!("{other:?} is nothing that a web server says"),
        };
        if written.is_err() {
            return;
        }
    }
    // The client may have closed it.
    let _ = stream.shutdown().await;
}
