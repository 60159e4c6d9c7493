//! Messages over connections, told to a reader.

use super::*;
use crate::upstream::told::UpstreamReader;
use ringdns_dataplane::clock::Nanos;

/// Transport, ends, time, whether it is a response, and the message.
type Told = (ExchangeTransport, Ends, Nanos, bool, Vec<u8>);

#[derive(Default)]
struct Reader(Mutex<Vec<Told>>);

impl UpstreamReader for Reader {
    fn pick(&self) -> Option<Nanos> {
        Some(7)
    }

    fn take(&self, message: &UpstreamMessage<'_>) {
        let UpstreamMessage { transport, ends, asked, is_response, wire } = *message;
        self.0.lock().push((transport, ends, asked, is_response, wire.to_vec()));
    }
}

#[tokio::test]
async fn a_reader_is_told_of_both_messages_over_a_connection() {
    let stage = Stage::open(None).await;
    let upstream = tcp(stage.address());
    let reader = Arc::new(Reader::default());
    assert!(upstream.reader.set(reader.clone()).is_ok());
    let asked = asking(&upstream, "www.example");
    let mut line = stage.accept().await.unwrap();
    serve_one(&mut line, asked).await;
    let told = reader.0.lock();
    let [query, response] = &told[..] else { panic!("{told:?}") };
    let question = key("www.example").question().to_vec();
    for ((transport, ends, asked, is_response, wire), expected) in [(query, false), (response, true)] {
        assert_eq!((transport, asked, *is_response), (&ExchangeTransport::Tcp, &7, expected));
        assert_eq!((ends, ends.1), (&query.1, stage.address()));
        assert_eq!(wire[2] & 0x80 != 0, expected, "{wire:?}");
        assert!(wire[header::LEN..].starts_with(&question), "{wire:?}");
    }
}
