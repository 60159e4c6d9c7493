//! Frame Streams, the writer's side of a connection in both directions: READY is answered with
//! ACCEPT, then START, data frames and STOP, which is answered with FINISH.

use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Content type of dnstap.
pub const CONTENT_TYPE: &[u8] = b"protobuf:dnstap.Dnstap";
/// Longest control frame in bytes (fstrm: `FSTRM_CONTROL_FRAME_LENGTH_MAX`).
const CONTROL_MAX: usize = 512;
/// Field of a control frame that has a content type.
const FIELD_CONTENT_TYPE: u32 = 1;

/// Type of a control frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// The reader accepts content types.
    Accept = 1,
    /// Data frames begin.
    Start = 2,
    /// Data frames end.
    Stop = 3,
    /// The writer offers content types.
    Ready = 4,
    /// The reader has read everything.
    Finish = 5,
}

/// Reason why a peer is no reader of dnstap.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The connection failed or ended.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The peer sent something else than the control frame that is due.
    #[error("its peer does not speak Frame Streams in both directions: {0}")]
    Unexpected(&'static str),
    /// The peer reads other things.
    #[error("its peer does not accept the content type protobuf:dnstap.Dnstap")]
    ContentType,
}

/// Returns a control frame, with the content type or without.
fn control(kind: Control, has_content_type: bool) -> Vec<u8> {
    let mut frame = Vec::with_capacity(64);
    let len = 4 + if has_content_type { 8 + CONTENT_TYPE.len() } else { 0 };
    // A data frame of length 0 announces a control frame.
    for word in [0, len as u32, kind as u32] {
        frame.extend_from_slice(&word.to_be_bytes());
    }
    if has_content_type {
        frame.extend_from_slice(&FIELD_CONTENT_TYPE.to_be_bytes());
        frame.extend_from_slice(&(CONTENT_TYPE.len() as u32).to_be_bytes());
        frame.extend_from_slice(CONTENT_TYPE);
    }
    frame
}

/// Opens the stream: offers dnstap, waits for its acceptance, and starts.
pub async fn open(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<(), FrameError> {
    stream.write_all(&control(Control::Ready, true)).await?;
    let accepted = read_control(stream, Control::Accept).await?;
    if !accepts(&accepted)? {
        return Err(FrameError::ContentType);
    }
    stream.write_all(&control(Control::Start, true)).await?;
    Ok(())
}

/// Closes the stream, and waits until the reader has read everything.
pub async fn close(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<(), FrameError> {
    stream.write_all(&control(Control::Stop, false)).await?;
    read_control(stream, Control::Finish).await?;
    Ok(())
}

/// Reads a control frame of this type, and returns its fields.
async fn read_control(stream: &mut (impl AsyncRead + Unpin), due: Control) -> Result<Vec<u8>, FrameError> {
    if stream.read_u32().await? != 0 {
        return Err(FrameError::Unexpected("it sent data"));
    }
    let len = stream.read_u32().await? as usize;
    if !(4..=CONTROL_MAX).contains(&len) {
        return Err(FrameError::Unexpected("its control frame is too short or too long"));
    }
    if stream.read_u32().await? != due as u32 {
        return Err(FrameError::Unexpected("it sent another control frame than the one that is due"));
    }
    let mut fields = vec![0; len - 4];
    stream.read_exact(&mut fields).await?;
    Ok(fields)
}

/// Whether the fields of an ACCEPT frame name dnstap, or no content type at all: such a reader takes
/// any.
fn accepts(mut fields: &[u8]) -> Result<bool, FrameError> {
    if fields.is_empty() {
        return Ok(true);
    }
    let mut accepted = false;
    while !fields.is_empty() {
        let cut = || FrameError::Unexpected("a field of its control frame is cut off");
        let (kind, rest) = fields.split_first_chunk::<4>().ok_or_else(cut)?;
        let (len, rest) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
        let (value, rest) = rest.split_at_checked(u32::from_be_bytes(*len) as usize).ok_or_else(cut)?;
        if u32::from_be_bytes(*kind) != FIELD_CONTENT_TYPE {
            return Err(FrameError::Unexpected("its control frame has an unknown field"));
        }
        accepted |= value == CONTENT_TYPE;
        fields = rest;
    }
    Ok(accepted)
}

/// Returns the number of whole data frames among `frames`, and their length in bytes.
pub fn whole(frames: &[u8]) -> (u64, usize) {
    let (mut count, mut at) = (0, 0);
    while let Some(len) = frames.get(at..).and_then(|rest| rest.first_chunk::<4>()) {
        let end = at + 4 + u32::from_be_bytes(*len) as usize;
        if end > frames.len() {
            break;
        }
        (count, at) = (count + 1, end);
    }
    (count, at)
}

#[cfg(test)]
mod tests;
