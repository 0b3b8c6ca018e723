//! gRPC's framing: five bytes of prefix and a message, cut out of and into DATA frames.

use std::io::Read;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::read::{GzDecoder, ZlibDecoder};

use crate::grpc::status::{Status, INTERNAL, RESOURCE_EXHAUSTED, UNIMPLEMENTED};

const PREFIX: usize = 5;

/// Bytes of a DATA frame, as HTTP/2 has them unless a client asks for more.
const FRAME: usize = 16 * 1024;

/// How a client has compressed its messages.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Encoding {
    Identity,
    Deflate,
    Gzip,
}

impl Encoding {
    pub const ACCEPTED: &'static str = "identity,deflate,gzip";

    pub fn named(name: Option<&[u8]>) -> Result<Self, Status> {
        match name {
            None | Some(b"identity") => Ok(Encoding::Identity),
            Some(b"deflate") => Ok(Encoding::Deflate),
            Some(b"gzip") => Ok(Encoding::Gzip),
            Some(other) => Err(Status::new(
                UNIMPLEMENTED,
                format!("grpc-encoding {:?} is not supported", String::from_utf8_lossy(other)),
            )),
        }
    }
}

/// Puts the messages of one request stream together from its DATA frames.
///
/// It holds what has arrived of one message and, behind it, the rest of the last frame; never more than the limit
/// and one frame.
pub struct Assembler {
    /// The frame that is being read; whole messages are cut out of it without a copy.
    frame: Bytes,
    /// A message whose end is in a later frame, prefix included.
    partial: BytesMut,
    encoding: Encoding,
    limit: usize,
}

impl Assembler {
    pub fn new(encoding: Encoding, limit: usize) -> Self {
        Assembler { frame: Bytes::new(), partial: BytesMut::new(), encoding, limit }
    }

    /// Takes the next frame; only after `next` has said that the one before is used up.
    pub fn push(&mut self, frame: Bytes) {
        debug_assert!(self.frame.is_empty());
        self.frame = frame;
    }

    pub fn is_empty(&self) -> bool {
        self.frame.is_empty() && self.partial.is_empty()
    }

    /// Bytes of memory that it takes up.
    pub fn held(&self) -> usize {
        self.frame.len() + self.partial.capacity()
    }

    /// The next whole message, or none until another frame comes.
    pub fn next(&mut self) -> Result<Option<Bytes>, Status> {
        if self.partial.is_empty() {
            let Some((compressed, length)) = self.prefix(&self.frame)? else {
                self.partial.extend_from_slice(&std::mem::take(&mut self.frame));
                return Ok(None);
            };
            if self.frame.len() < PREFIX + length {
                self.partial.extend_from_slice(&std::mem::take(&mut self.frame));
                return Ok(None);
            }
            self.frame.advance(PREFIX);
            let message = self.frame.split_to(length);
            return self.decoded(compressed, message).map(Some);
        }
        if self.partial.len() < PREFIX {
            self.take(PREFIX - self.partial.len());
        }
        let Some((compressed, length)) = self.prefix(&self.partial)? else { return Ok(None) };
        self.take(PREFIX + length - self.partial.len());
        if self.partial.len() < PREFIX + length {
            return Ok(None);
        }
        let mut message = std::mem::take(&mut self.partial).freeze();
        message.advance(PREFIX);
        self.decoded(compressed, message).map(Some)
    }

    fn take(&mut self, wanted: usize) {
        let part = self.frame.split_to(wanted.min(self.frame.len()));
        self.partial.extend_from_slice(&part);
    }

    fn prefix(&self, mut bytes: &[u8]) -> Result<Option<(bool, usize)>, Status> {
        if bytes.len() < PREFIX {
            return Ok(None);
        }
        let flag = bytes.get_u8();
        let length = bytes.get_u32() as usize;
        if length > self.limit {
            return Err(self.larger_than_limit(length));
        }
        match flag {
            0 => Ok(Some((false, length))),
            1 if self.encoding != Encoding::Identity => Ok(Some((true, length))),
            1 => Err(Status::new(INTERNAL, "grpc: compressed flag set with identity or empty encoding")),
            _ => Err(Status::new(INTERNAL, format!("grpc: received unexpected payload format {flag}"))),
        }
    }

    fn decoded(&self, compressed: bool, message: Bytes) -> Result<Bytes, Status> {
        if !compressed {
            return Ok(message);
        }
        // One byte above the limit is enough to know that there is too much; a bomb is never unpacked.
        let bound = self.limit as u64 + 1;
        let mut plain = Vec::new();
        let unpacked = match self.encoding {
            Encoding::Gzip => GzDecoder::new(&message[..]).take(bound).read_to_end(&mut plain),
            Encoding::Deflate => ZlibDecoder::new(&message[..]).take(bound).read_to_end(&mut plain),
            Encoding::Identity => return Ok(message),
        };
        match unpacked {
            Ok(length) if length > self.limit => Err(self.larger_than_limit(length)),
            Ok(_) => Ok(plain.into()),
            Err(error) => Err(Status::new(INTERNAL, format!("decompressing a message failed: {error}"))),
        }
    }

    fn larger_than_limit(&self, length: usize) -> Status {
        let limit = self.limit;
        Status::new(RESOURCE_EXHAUSTED, format!("grpc: received message larger than max ({length} vs. {limit})"))
    }
}

/// The bytes of a message on the wire: a piece with the prefix and, where a copy of all would cost more, the rest.
///
/// The piece of a large message fills a DATA frame: a frame for the prefix alone would cost its reader as much as a full
/// one.
pub fn framed(message: &[u8], own: impl FnOnce() -> Bytes) -> (Bytes, Option<Bytes>) {
    let copied = message.len().min(FRAME - PREFIX);
    let mut piece = BytesMut::with_capacity(PREFIX + copied);
    piece.put_u8(0);
    piece.put_u32(message.len() as u32);
    piece.extend_from_slice(&message[..copied]);
    let rest = (copied < message.len()).then(|| own().split_off(copied));
    (piece.freeze(), rest)
}

/// The bytes of what has no prefix: a copy of all where that costs less.
pub fn unframed(part: &[u8], own: impl FnOnce() -> Bytes) -> Bytes {
    if part.len() <= FRAME {
        Bytes::copy_from_slice(part)
    } else {
        own()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::write::{GzEncoder, ZlibEncoder};
    use flate2::Compression;

    use super::*;

    fn wire(messages: &[&[u8]]) -> Bytes {
        let mut bytes = BytesMut::new();
        for message in messages {
            bytes.extend_from_slice(&framed(message, || unreachable!()).0);
        }
        bytes.freeze()
    }

    #[test]
    fn messages_come_out_whole_however_the_frames_are_cut() {
        let sent = wire(&[b"", b"a", b"bc", &[7; 300]]);
        for size in 1..sent.len() {
            let mut assembler = Assembler::new(Encoding::Identity, 1024);
            let mut lengths = Vec::new();
            for frame in sent.chunks(size) {
                assembler.push(Bytes::copy_from_slice(frame));
                while let Some(message) = assembler.next().unwrap() {
                    lengths.push(message.len());
                }
            }
            assert_eq!(lengths, [0, 1, 2, 300], "frames of {size} bytes");
            assert!(assembler.is_empty());
        }
    }

    #[test]
    fn a_large_message_begins_with_a_full_frame_and_goes_on_without_a_copy() {
        let message = Bytes::from(vec![7; FRAME + 10]);
        let (piece, rest) = framed(&message, || message.clone());
        assert_eq!(piece.len(), FRAME);
        assert_eq!(rest.map(|rest| rest.len()), Some(15));
    }

    #[test]
    fn a_message_above_the_limit_is_refused_at_its_prefix() {
        let mut assembler = Assembler::new(Encoding::Identity, 3);
        assembler.push(wire(&[b"abcd"]).slice(..5));
        assert!(assembler.next().is_err());
    }

    /// What comes of one frame with this flag and message.
    fn received(encoding: Encoding, flag: u8, message: &[u8]) -> Result<Option<Bytes>, Status> {
        let mut frame = BytesMut::new();
        frame.put_u8(flag);
        frame.put_u32(message.len() as u32);
        frame.extend_from_slice(message);
        let mut assembler = Assembler::new(encoding, 1024);
        assembler.push(frame.freeze());
        assembler.next()
    }

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn deflate(plain: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn compressed_messages_come_out_plain() {
        assert_eq!(received(Encoding::Gzip, 1, &gzip(b"a")).unwrap().unwrap(), "a");
        assert_eq!(received(Encoding::Deflate, 1, &deflate(b"a")).unwrap().unwrap(), "a");
    }

    #[test]
    fn a_message_of_a_compressed_stream_may_be_plain() {
        assert_eq!(received(Encoding::Gzip, 0, b"a").unwrap().unwrap(), "a");
    }

    #[test]
    fn the_limit_is_on_the_plain_size() {
        assert_eq!(received(Encoding::Gzip, 1, &gzip(&[0; 1024])).unwrap().unwrap().len(), 1024);
        let refused = received(Encoding::Gzip, 1, &gzip(&[0; 1025])).unwrap_err();
        assert_eq!(refused.code(), RESOURCE_EXHAUSTED);
    }

    #[test]
    fn what_cannot_be_decompressed_is_refused() {
        assert_eq!(received(Encoding::Gzip, 1, b"a").unwrap_err().code(), INTERNAL);
    }

    #[test]
    fn a_compressed_message_needs_an_encoding() {
        assert_eq!(received(Encoding::Identity, 1, b"a").unwrap_err().code(), INTERNAL);
    }

    #[test]
    fn flags_that_there_are_not_are_refused() {
        assert_eq!(received(Encoding::Identity, 2, b"a").unwrap_err().code(), INTERNAL);
    }

    #[test]
    fn an_encoding_that_is_not_known_is_unimplemented() {
        assert_eq!(Encoding::named(Some(b"snappy")).unwrap_err().code(), UNIMPLEMENTED);
        assert_eq!(Encoding::named(None).unwrap(), Encoding::Identity);
    }

    #[test]
    fn what_is_held_is_what_has_come_of_a_message() {
        let mut assembler = Assembler::new(Encoding::Identity, 1024);
        assert_eq!(assembler.held(), 0);
        assembler.push(wire(&[&[7; 100]]).slice(..50));
        assert!(assembler.next().unwrap().is_none());
        assert!(assembler.held() >= 50);
        assembler.push(wire(&[&[7; 100]]).slice(50..));
        assert!(assembler.next().unwrap().is_some());
        assert_eq!(assembler.held(), 0);
    }
}
