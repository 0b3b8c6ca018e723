//! Connections within their handshakes, about whose clients nothing is known: they are few, and the oldest yields.

use std::collections::BTreeMap;
use std::sync::Mutex;

use tokio::sync::oneshot;

use crate::shared::lock::locked;

#[derive(Default)]
struct Begun {
    number: u64,
    /// By their age; dropping a sender ends the handshake.
    going_on: BTreeMap<u64, oneshot::Sender<()>>,
}

/// The handshakes that are going on.
///
/// Beyond the bound a new one ends the oldest: whoever fills the places with connections that say nothing ends its own,
/// while a client that does its handshake needs its place for a few round trips.
pub struct Handshakes {
    most: usize,
    begun: Mutex<Begun>,
}

impl Handshakes {
    pub fn new(most: usize) -> Self {
        Handshakes { most, begun: Mutex::default() }
    }

    /// A place for one more.
    pub fn begin(&self) -> Place<'_> {
        let (end, ended) = oneshot::channel();
        let mut begun = locked(&self.begun);
        if begun.going_on.len() >= self.most {
            begun.going_on.pop_first();
        }
        let number = begun.number;
        begun.number += 1;
        begun.going_on.insert(number, end);
        Place { handshakes: self, number, ended }
    }
}

/// A handshake's place, until it is dropped.
pub struct Place<'a> {
    handshakes: &'a Handshakes,
    number: u64,
    ended: oneshot::Receiver<()>,
}

impl Place<'_> {
    /// Returns when another handshake has taken the place.
    pub async fn lost(&mut self) {
        let _ = (&mut self.ended).await;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        locked(&self.handshakes.begun).going_on.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_yields_to_the_newest() {
        let handshakes = Handshakes::new(2);
        let mut places: Vec<_> = (0..3).map(|_| handshakes.begin()).collect();
        let lost: Vec<_> = places
            .iter_mut()
            .map(|place| place.ended.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Closed))
            .collect();
        assert_eq!(lost, [true, false, false]);
    }

    #[test]
    fn a_finished_handshake_frees_its_place() {
        let handshakes = Handshakes::new(1);
        drop(handshakes.begin());
        let mut place = handshakes.begin();
        assert_eq!(place.ended.try_recv(), Err(oneshot::error::TryRecvError::Empty));
    }
}
