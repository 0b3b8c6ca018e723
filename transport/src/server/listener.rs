//! Ports: bound at once, so that a wrong address is told to who gave it; accepted from once the server starts.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::shared::lifetime::Phase;

/// Connections that the kernel completes before they are accepted.
const BACKLOG: i32 = 4096;
/// How long to wait when accepting fails, as it does while no file descriptor is free.
const PAUSE: Duration = Duration::from_millis(100);

/// Binds every address a name stands for, all on one port; the port, chosen by the system where 0 is asked for.
pub fn bind(address: &str, reuse_port: bool) -> io::Result<(Vec<TcpListener>, u16)> {
    let mut listeners = Vec::new();
    let mut port = 0;
    for mut candidate in address.to_socket_addrs()? {
        if candidate.port() == 0 {
            candidate.set_port(port);
        }
        let listener = listen(candidate, reuse_port)?;
        port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    match listeners.is_empty() {
        true => Err(io::ErrorKind::AddrNotAvailable.into()),
        false => Ok((listeners, port)),
    }
}

fn listen(address: SocketAddr, reuse_port: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    if address.is_ipv6() {
        // The unspecified address is for both families, as it is in grpcio.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Hands each connection on until the server stops serving.
pub async fn accept(
    listener: tokio::net::TcpListener,
    mut phase: watch::Receiver<Phase>,
    mut serve: impl FnMut(TcpStream, SocketAddr),
) {
    // The server may have been stopped before this task first ran.
    phase.mark_changed();
    loop {
        tokio::select! {
            _ = phase.changed() => if *phase.borrow() != Phase::Serving { return },
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => serve(stream, address),
                Err(_) => tokio::time::sleep(PAUSE).await,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_of_a_name_is_bound_on_one_port() {
        let (listeners, port) = bind("localhost:0", false).unwrap();
        assert!(listeners.iter().all(|listener| listener.local_addr().unwrap().port() == port));
    }

    #[test]
    fn a_port_is_shared_only_by_those_who_agree_to_it() {
        let (_held, port) = bind("127.0.0.1:0", false).unwrap();
        assert!(bind(&format!("127.0.0.1:{port}"), true).is_err());
        let (_shared, port) = bind("127.0.0.1:0", true).unwrap();
        assert!(bind(&format!("127.0.0.1:{port}"), true).is_ok());
    }
}
