//! Which HTTP a connection in plain text speaks, by its first bytes; nothing of them is lost.

use std::io::Result;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// What begins a connection of HTTP/2, and no request of HTTP/1.1.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Reads until it is sure; whether it is HTTP/2, and the stream as it was. None if it ends before.
pub async fn look<S: AsyncRead + Unpin>(mut stream: S) -> Option<(Replayed<S>, bool)> {
    let mut seen = [0; PREFACE.len()];
    let mut length = 0;
    while length < seen.len() && seen[..length] == PREFACE[..length] {
        match stream.read(&mut seen[length..]).await {
            Ok(read) if read > 0 => length += read,
            _ => return None,
        }
    }
    let is_http2 = seen == *PREFACE;
    Some((Replayed { again: seen[..length].into(), at: 0, stream }, is_http2))
}

/// A stream that begins with what was read of it before.
pub struct Replayed<S> {
    again: Box<[u8]>,
    at: usize,
    stream: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Replayed<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let replayed = self.get_mut();
        let rest = &replayed.again[replayed.at..];
        if rest.is_empty() {
            return Pin::new(&mut replayed.stream).poll_read(context, into);
        }
        let size = rest.len().min(into.remaining());
        into.put_slice(&rest[..size]);
        replayed.at += size;
        if replayed.at == replayed.again.len() {
            (replayed.again, replayed.at) = (Box::default(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Replayed<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::Waker;

    use super::*;

    /// A client that sends its bytes one by one.
    struct OneByOne(&'static [u8]);

    impl AsyncRead for OneByOne {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<Result<()>> {
            let (first, rest) = self.0.split_at(self.0.len().min(1));
            into.put_slice(first);
            self.0 = rest;
            Poll::Ready(Ok(()))
        }
    }

    fn now<T>(future: impl Future<Output = T>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => value,
            Poll::Pending => panic!("it waits"),
        }
    }

    #[test]
    fn the_preface_is_told_from_requests_and_read_again() {
        for (sent, is_http2) in [
            (&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0"[..], true),
            (b"GET / HTTP/1.1\r\n\r\n", false),
            (b"PROPFIND / HTTP/1.1\r\n\r\n", false),
            (b"PRI * HTTP/2.0\r\n\r\nnothing of the sort", false),
        ] {
            let (mut replayed, found) = now(look(OneByOne(sent))).unwrap();
            assert_eq!(found, is_http2);
            let mut read = Vec::new();
            now(replayed.read_to_end(&mut read)).unwrap();
            assert_eq!(read, sent);
        }
    }

    #[test]
    fn who_says_less_is_nobody() {
        assert!(now(look(OneByOne(b""))).is_none());
        assert!(now(look(OneByOne(b"PRI *"))).is_none());
    }
}
