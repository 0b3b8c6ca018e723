//! What a connection sends, frames gathered into few writes.
//!
//! h2 writes and flushes each frame of data by itself; over TLS that is a record or two and a system call for each
//! response. Here frames gather while it has more of them, and leave when it has not: `send` is for whoever drives the
//! connection, each time that h2 has come to rest. Nothing waits longer for it.

use std::future::{poll_fn, Future};
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{ready, Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::call::progress::Progress;
use crate::shared::lock::locked;

/// Bytes that gather before they are sent although there is more to come: two records of TLS. With more, a client that
/// reads on another core waits longer for the first of them.
const ROOM: usize = 32 * 1024;
/// Bytes of memory that a connection keeps when it has sent no more than so many.
const KEPT: usize = 512;

/// A stream whose flushes do nothing; a clone is the same stream.
pub struct Output<S>(Arc<Mutex<Gathering<S>>>);

struct Gathering<S> {
    stream: S,
    gathered: Vec<u8>,
    sent: usize,
}

impl<S> Clone for Output<S> {
    fn clone(&self) -> Self {
        Output(self.0.clone())
    }
}

impl<S> Output<S> {
    pub fn new(stream: S) -> Self {
        Output(Arc::new(Mutex::new(Gathering { stream, gathered: Vec::new(), sent: 0 })))
    }
}

impl<S: AsyncWrite + Unpin> Output<S> {
    /// Sends everything that has gathered.
    pub fn send(&self, context: &mut Context<'_>) -> Poll<Result<()>> {
        locked(&self.0).send(context)
    }
}

impl<S: AsyncWrite + Unpin> Gathering<S> {
    fn send(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        while self.sent < self.gathered.len() {
            let rest = &self.gathered[self.sent..];
            match ready!(Pin::new(&mut self.stream).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(Error::from(ErrorKind::WriteZero))),
                written => self.sent += written,
            }
        }
        self.gathered.clear();
        if self.sent <= KEPT {
            self.gathered.shrink_to(KEPT);
        }
        self.sent = 0;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    /// Takes as much of the slices as there is room for, at least a byte.
    fn take(&mut self, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<Result<usize>> {
        if self.gathered.len() >= ROOM {
            ready!(self.send(context))?;
        }
        let before = self.gathered.len();
        for slice in slices {
            let room = ROOM - self.gathered.len();
            self.gathered.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        Poll::Ready(Ok(self.gathered.len() - before))
    }
}

/// What `driving` comes to, which drives h2's side of the output; what h2 has to say meanwhile is sent when it rests.
pub async fn sending<S: AsyncWrite + Unpin, T>(
    output: &Output<S>,
    progress: &Progress,
    driving: impl Future<Output = T>,
) -> T {
    tokio::pin!(driving);
    poll_fn(|context| {
        let driven = driving.as_mut().poll(context);
        if driven.is_pending() {
            // Where it fails the connection's own reads and writes fail, too.
            if output.send(context).is_ready() {
                progress.caught_up();
            }
        }
        driven
    })
    .await
}

impl<S: AsyncRead + Unpin> AsyncRead for Output<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        Pin::new(&mut locked(&self.0).stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Output<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        locked(&self.0).take(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        locked(&self.0).take(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let mut gathering = locked(&self.0);
        ready!(gathering.send(context))?;
        Pin::new(&mut gathering.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream that keeps each write, and takes so many bytes of it; none stand for one that is not writable.
    #[derive(Default)]
    struct Socket {
        writes: Vec<Vec<u8>>,
        takes: Option<usize>,
    }

    impl AsyncWrite for Socket {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
            let Some(takes) = self.takes else { return Poll::Pending };
            let taken = bytes.len().min(takes);
            self.writes.push(bytes[..taken].to_vec());
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn context() -> Context<'static> {
        Context::from_waker(std::task::Waker::noop())
    }

    fn write(output: &mut Output<Socket>, bytes: &[u8]) -> Poll<usize> {
        let written = Pin::new(&mut *output).poll_write(&mut context(), bytes);
        assert!(matches!(Pin::new(output).poll_flush(&mut context()), Poll::Ready(Ok(()))));
        written.map(|written| written.unwrap())
    }

    #[test]
    fn what_gathers_leaves_in_one_write() {
        let mut output = Output::new(Socket { takes: Some(usize::MAX), ..Socket::default() });
        assert_eq!(write(&mut output, b"a"), Poll::Ready(1));
        assert_eq!(write(&mut output, b"bc"), Poll::Ready(2));
        assert!(output.send(&mut context()).is_ready());
        assert_eq!(locked(&output.0).stream.writes, [b"abc"]);
    }

    #[test]
    fn no_more_gathers_than_there_is_room_for() {
        let mut output = Output::new(Socket::default());
        assert_eq!(write(&mut output, &vec![0; ROOM + 1]), Poll::Ready(ROOM));
        assert!(write(&mut output, b"a").is_pending());
        locked(&output.0).stream.takes = Some(usize::MAX);
        assert_eq!(write(&mut output, b"a"), Poll::Ready(1));
    }

    #[test]
    fn what_is_taken_in_parts_arrives_whole() {
        let mut output = Output::new(Socket { takes: Some(2), ..Socket::default() });
        assert_eq!(write(&mut output, b"abcde"), Poll::Ready(5));
        assert!(output.send(&mut context()).is_ready());
        assert_eq!(locked(&output.0).stream.writes.concat(), b"abcde");
    }

    #[test]
    fn the_memory_of_a_large_answer_is_given_back() {
        let mut output = Output::new(Socket { takes: Some(usize::MAX), ..Socket::default() });
        assert_eq!(write(&mut output, &[0; ROOM]), Poll::Ready(ROOM));
        assert!(output.send(&mut context()).is_ready());
        assert_eq!(write(&mut output, b"a"), Poll::Ready(1));
        assert!(output.send(&mut context()).is_ready());
        assert!(locked(&output.0).gathered.capacity() <= KEPT);
    }
}
