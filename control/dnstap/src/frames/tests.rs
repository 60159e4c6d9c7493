//! Tests: the handshake, byte by byte, and readers that do not follow it.

use super::*;
use tokio::io::duplex;

/// Frame READY with the content type of dnstap, as `fstrm_capture` gets it.
const READY: &[u8] = b"\0\0\0\0\0\0\0\x22\0\0\0\x04\0\0\0\x01\0\0\0\x16protobuf:dnstap.Dnstap";
const ACCEPT: &[u8] = b"\0\0\0\0\0\0\0\x22\0\0\0\x01\0\0\0\x01\0\0\0\x16protobuf:dnstap.Dnstap";
const START: &[u8] = b"\0\0\0\0\0\0\0\x22\0\0\0\x02\0\0\0\x01\0\0\0\x16protobuf:dnstap.Dnstap";
const STOP: &[u8] = b"\0\0\0\0\0\0\0\x04\0\0\0\x03";
const FINISH: &[u8] = b"\0\0\0\0\0\0\0\x04\0\0\0\x05";

/// Opens a stream to a reader that answers READY with `answer` and closes its side.
async fn opened(answer: &[u8]) -> (Result<(), FrameError>, Vec<u8>) {
    let (mut ours, mut theirs) = duplex(1 << 10);
    theirs.write_all(answer).await.unwrap();
    let ended = open(&mut ours).await;
    drop(ours);
    let mut seen = Vec::new();
    theirs.read_to_end(&mut seen).await.unwrap();
    (ended, seen)
}

#[tokio::test]
async fn a_stream_is_opened_and_closed_as_described() {
    let (mut ours, mut theirs) = duplex(1 << 10);
    let reader = async {
        let mut seen = vec![0; READY.len()];
        theirs.read_exact(&mut seen).await.unwrap();
        assert_eq!(seen, READY);
        theirs.write_all(ACCEPT).await.unwrap();
        let mut rest = vec![0; START.len() + STOP.len()];
        theirs.read_exact(&mut rest).await.unwrap();
        assert_eq!(rest, [START, STOP].concat());
        theirs.write_all(FINISH).await.unwrap();
    };
    let writer = async {
        open(&mut ours).await.unwrap();
        close(&mut ours).await.unwrap();
    };
    tokio::join!(reader, writer);
}

#[tokio::test]
async fn a_reader_may_take_any_content_or_several() {
    let any = b"\0\0\0\0\0\0\0\x04\0\0\0\x01";
    let several =
        b"\0\0\0\0\0\0\0\x2b\0\0\0\x01\0\0\0\x01\0\0\0\x01x\0\0\0\x01\0\0\0\x16protobuf:dnstap.Dnstap";
    for answer in [&any[..], several] {
        let (ended, seen) = opened(answer).await;
        ended.unwrap();
        assert_eq!(seen, [READY, START].concat());
    }
}

#[tokio::test]
async fn others_than_readers_of_dnstap_are_refused_with_the_reason() {
    for (answer, reason) in [
        (&b"\0\0\0\0\0\0\0\x0d\0\0\0\x01\0\0\0\x01\0\0\0\x01x"[..], "does not accept the content type"),
        (b"HTTP/1.1 400 Bad Request", "it sent data"),
        (START, "another control frame"),
        (b"\0\0\0\0\0\0\0\x03abc", "too short or too long"),
        (b"\0\0\0\0\0\0\x02\x01\0\0\0\x01", "too short or too long"),
        (b"\0\0\0\0\0\0\0\x08\0\0\0\x01\0\0\0\x01", "cut off"),
        (b"\0\0\0\0\0\0\0\x0c\0\0\0\x01\0\0\0\x01\xff\xff\xff\xff", "cut off"),
        (b"\0\0\0\0\0\0\0\x0c\0\0\0\x01\0\0\0\x02\0\0\0\0", "unknown field"),
    ] {
        let (ended, seen) = opened(answer).await;
        let said = ended.unwrap_err().to_string();
        assert!(said.contains(reason), "{said}");
        assert_eq!(seen, READY, "{said}");
    }
}

#[test]
fn only_whole_frames_count() {
    let frames = b"\0\0\0\x02ab\0\0\0\0\0\0\0\x01c";
    for (len, count, bytes) in
        [(0, 0, 0), (5, 0, 0), (6, 1, 6), (9, 1, 6), (10, 2, 10), (14, 2, 10), (15, 3, 15)]
    {
        assert_eq!(whole(&frames[..len]), (count, bytes), "{len}");
    }
    assert_eq!(whole(b"\xff\xff\xff\xffabc"), (0, 0));
}
