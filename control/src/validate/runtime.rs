//! What the validator takes from a runtime. All that it uses is the wall clock, which here is the program's.

use super::ask::WORK;
use async_trait::async_trait;
use hickory_net::runtime::{RuntimeProvider, Time, TokioRuntimeProvider, TokioTime};
use std::{future::Future, io, net::SocketAddr, pin::Pin, time::Duration};

type Opened<T> = Pin<Box<dyn Send + Future<Output = io::Result<T>>>>;

/// Tokio, with the program's time.
#[derive(Clone, Default)]
pub struct Runtime(TokioRuntimeProvider);

impl RuntimeProvider for Runtime {
    type Handle = <TokioRuntimeProvider as RuntimeProvider>::Handle;
    type Timer = Now;
    type Udp = <TokioRuntimeProvider as RuntimeProvider>::Udp;
    type Tcp = <TokioRuntimeProvider as RuntimeProvider>::Tcp;

    fn create_handle(&self) -> Self::Handle {
        self.0.create_handle()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        local: Option<SocketAddr>,
        timeout: Option<Duration>,
    ) -> Opened<Self::Tcp> {
        self.0.connect_tcp(server, local, timeout)
    }

    fn bind_udp(&self, local: SocketAddr, server: SocketAddr) -> Opened<Self::Udp> {
        self.0.bind_udp(local, server)
    }
}

/// The time of the answer that the task looks for.
pub struct Now;

#[async_trait]
impl Time for Now {
    async fn delay_for(duration: Duration) {
        TokioTime::delay_for(duration).await;
    }

    async fn timeout<F: Future + Send + 'static>(duration: Duration, future: F) -> io::Result<F::Output> {
        TokioTime::timeout(duration, future).await
    }

    fn current_time() -> u64 {
        WORK.with(|work| work.clock.unix())
    }
}
