//! Upstream over TCP, TLS or HTTPS, played by the test one message at a time.

use http_body_util::{BodyExt, channel::Channel};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{convert::Infallible, io, net::SocketAddr, sync::Arc};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

/// Waits for connections.
pub struct Stage {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection.
pub struct Line {
    stream: Box<dyn Stream>,
    /// Whether it resumed an earlier TLS session.
    pub resumed: bool,
}

impl Stage {
    pub async fn open(tls: Option<TlsAcceptor>) -> Self {
        Stage { listener: TcpListener::bind("127.0.0.1:0").await.unwrap(), tls }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// Accepts a connection, and sets up no TLS on it.
    pub async fn accept_tcp(&self) -> io::Result<TcpStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }

    pub async fn accept(&self) -> io::Result<Line> {
        let stream = self.accept_tcp().await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Ok(Line { stream: Box::new(stream), resumed: false }) };
        let stream = tls.accept(stream).await?;
        let resumed = stream.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
        Ok(Line { stream: Box::new(stream), resumed })
    }

    /// Answers all requests over HTTP/2 with what `script` makes of them, until it is dropped.
    pub fn serve_http(self, script: impl Fn(Asked) -> Said + Send + Sync + 'static) -> JoinSet<()> {
        let script = Arc::new(script);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let Ok(Line { stream, .. }) = self.accept().await else { continue };
                let script = script.clone();
                let service = service_fn(move |request| answer(request, script.clone()));
                let serving =
                    http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
                connections.spawn(async move { drop(serving.await) });
            }
        });
        tasks
    }
}

/// A request.
pub struct Asked {
    pub head: hyper::http::request::Parts,
    pub body: Bytes,
}

/// Response: head, and the pieces of the body.
pub type Said = (hyper::http::response::Builder, Vec<Bytes>);

async fn answer(
    request: Request<Incoming>,
    script: Arc<impl Fn(Asked) -> Said>,
) -> Result<Response<Channel<Bytes, Infallible>>, hyper::http::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let (head, pieces) = script(Asked { head, body });
    let (mut sender, body) = Channel::new(1);
    tokio::spawn(async move {
        for piece in pieces {
            // An empty piece stands for an endless pause.
            if piece.is_empty() {
                std::future::pending::<()>().await;
            }
            // The client may have closed the stream.
            let _ = sender.send_data(piece).await;
        }
    });
    head.body(body)
}

impl Line {
    /// The next query.
    pub async fn hear(&mut self) -> Vec<u8> {
        let len = self.stream.read_u16().await.unwrap();
        let mut query = vec![0; usize::from(len)];
        self.stream.read_exact(&mut query).await.unwrap();
        query
    }

    pub async fn say(&mut self, message: &[u8]) {
        let mut framed = (message.len() as u16).to_be_bytes().to_vec();
        framed.extend_from_slice(message);
        self.write(&framed).await.unwrap();
    }

    /// Sends bytes as they are; an error once the other side is gone.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Waits until the other side has closed it.
    pub async fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]).await, Ok(0) | Err(_))
    }
}
