//! A host name to its addresses, without ever holding up an answer or an exit.
//!
//! The system's resolver blocks, for as long as it likes: with three silent name
//! servers half a minute and more.

use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tracing::warn;

use crate::os::background::BackgroundTask;

/// For how long addresses serve on when the name does not resolve any more.
/// Longer, and they might be somebody else's.
const MAX_STALE: Duration = Duration::from_secs(10 * 60);

/// More addresses than any name of a single node has.
const MAX_ADDRESSES: usize = 8;

/// Resolves one name. Clones share its lookup and what it found.
#[derive(Clone)]
pub struct Resolver {
    host: Arc<str>,
    port: u16,
    lookup: BackgroundTask<Outcome>,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    /// The last addresses that were found, and when.
    good: Option<(Vec<SocketAddr>, Instant)>,
    /// The last good addresses had to serve since: said once.
    failing: bool,
}

/// Errors are not `Clone`; their kind and text are.
type Outcome = Result<Vec<SocketAddr>, (io::ErrorKind, String)>;

impl Resolver {
    /// A resolver for `host`, which may be an address, and a port.
    pub fn new(host: &str, port: u16) -> Self {
        Self::with(host, port, |host, port| Ok((host, port).to_socket_addrs()?.collect()))
    }

    fn with(
        host: &str,
        port: u16,
        system: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        let host: Arc<str> = host.into();
        let known: Arc<Mutex<Known>> = Arc::default();
        let (name, found) = (Arc::clone(&host), Arc::clone(&known));
        let lookup = BackgroundTask::new("resolver", move || {
            let outcome = look_up(&name, port, &system);
            if let Ok(addresses) = &outcome {
                let good = Some((addresses.clone(), Instant::now()));
                *lock(&found) = Known { good, failing: false };
            }
            outcome
        });
        Self { host, port, lookup, known }
    }

    /// The addresses: at most eight of them, at least one. When the name does not
    /// resolve within `budget`, the last good ones, if they are under ten
    /// minutes old; without such, the lookup is waited for until the caller goes.
    ///
    /// # Errors
    /// What the operating system says.
    pub async fn resolve(&self, budget: Duration) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, self.port)]);
        }
        let lookup = match (self.lookup.run(), self.good()) {
            (Ok(lookup), _) => lookup,
            (Err(error), Some(good)) => return Ok(self.fall_back(good, &error.to_string())),
            (Err(error), None) => return Err(error),
        };
        let outcome = match self.good() {
            None => lookup.outcome().await,
            // One that has used up somebody's budget gets no more of it.
            Some(good) => match timeout(lookup.time_left(budget), lookup.outcome()).await {
                Ok(outcome) => outcome,
                Err(_) => return Ok(self.fall_back(good, "it takes too long")),
            },
        };
        match (outcome, self.good()) {
            (Some(Ok(addresses)), _) => Ok(addresses),
            (Some(Err((_, error))), Some(good)) => Ok(self.fall_back(good, &error)),
            (Some(Err((kind, error))), None) => Err(io::Error::new(kind, error)),
            (None, _) => Err(io::Error::other("the lookup's thread is gone")),
        }
    }

    fn fall_back(&self, good: Vec<SocketAddr>, error: &str) -> Vec<SocketAddr> {
        if !mem::replace(&mut lock(&self.known).failing, true) {
            warn!(host = %self.host, error, "the name does not resolve: using its last addresses");
        }
        good
    }

    fn good(&self) -> Option<Vec<SocketAddr>> {
        let known = lock(&self.known);
        let (addresses, at) = known.good.as_ref()?;
        (at.elapsed() < MAX_STALE).then(|| addresses.clone())
    }
}

fn look_up(
    host: &str,
    port: u16,
    system: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>>,
) -> Outcome {
    let mut addresses = system(host, port).map_err(|error| (error.kind(), error.to_string()))?;
    addresses.truncate(MAX_ADDRESSES);
    match addresses.is_empty() {
        true => Err((io::ErrorKind::NotFound, "the name has no address".to_owned())),
        false => Ok(addresses),
    }
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(500);

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 3306))
    }

    /// A resolver whose lookups end when, and as, the test says.
    fn by_hand() -> (Resolver, Sender<io::Result<Vec<SocketAddr>>>, Arc<AtomicUsize>) {
        let (answers, lookups) = channel();
        let lookups = Mutex::new(lookups);
        let count = Arc::new(AtomicUsize::new(0));
        let counter = count.clone();
        let resolver = Resolver::with("db", 3306, move |_, _| {
            counter.fetch_add(1, SeqCst);
            lookups.lock().unwrap().recv().unwrap()
        });
        (resolver, answers, count)
    }

    fn refused() -> io::Result<Vec<SocketAddr>> {
        Err(io::Error::other("no such name"))
    }

    #[tokio::test]
    async fn an_address_needs_no_lookup() {
        for host in ["192.0.2.7", "::1"] {
            let resolver = Resolver::with(host, 1, |_, _| panic!("a lookup"));
            let addresses = resolver.resolve(Duration::ZERO).await.unwrap();
            assert_eq!(addresses, [SocketAddr::new(host.parse().unwrap(), 1)]);
        }
    }

    #[tokio::test]
    async fn localhost_resolves() {
        let addresses = Resolver::new("localhost", 7).resolve(TIMEOUT).await.unwrap();
        assert!(addresses.iter().all(|address| address.ip().is_loopback() && address.port() == 7));
    }

    #[tokio::test]
    async fn a_lookup_that_hangs_is_waited_for_no_longer_than_told_and_never_doubled() {
        let (resolver, answers, count) = by_hand();
        for _ in 0..20 {
            let waited = timeout(Duration::from_millis(1), resolver.resolve(Duration::ZERO)).await;
            assert!(waited.is_err());
        }
        assert_eq!(count.load(SeqCst), 1);
        let ends = async { answers.send(Ok(vec![address(1)])).unwrap() };
        let (resolved, ()) = tokio::join!(resolver.resolve(Duration::from_secs(10)), ends);
        assert_eq!(resolved.unwrap(), [address(1)]);
        assert_eq!(count.load(SeqCst), 1);
    }

    #[tokio::test]
    async fn the_last_good_addresses_serve_on_when_the_lookup_fails_or_hangs() {
        let (resolver, answers, count) = by_hand();
        let good = [address(1), address(2)];
        let long = Duration::from_secs(10);
        answers.send(Ok(good.to_vec())).unwrap();
        assert_eq!(resolver.resolve(long).await.unwrap(), good);
        answers.send(refused()).unwrap();
        assert_eq!(resolver.resolve(long).await.unwrap(), good);
        for _ in 0..20 {
            assert_eq!(resolver.resolve(Duration::from_millis(1)).await.unwrap(), good);
        }
        assert_eq!(count.load(SeqCst), 3);
        answers.send(Ok(vec![address(3)])).unwrap();
        while resolver.resolve(Duration::ZERO).await.unwrap() != [address(3)] {
            answers.send(Ok(vec![address(3)])).unwrap();
        }
    }

    #[tokio::test]
    async fn addresses_are_not_used_for_longer_than_ten_minutes() {
        let (resolver, answers, _) = by_hand();
        let long_ago = Instant::now().checked_sub(MAX_STALE).unwrap();
        lock(&resolver.known).good = Some((vec![address(1)], long_ago));
        answers.send(refused()).unwrap();
        assert!(resolver.resolve(Duration::from_secs(10)).await.is_err());
    }

    #[tokio::test]
    async fn a_name_without_an_address_is_an_error() {
        let resolver = Resolver::with("db", 3306, |_, _| Ok(Vec::new()));
        let error = resolver.resolve(Duration::from_secs(10)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn a_name_gives_at_most_eight_addresses() {
        let resolver = Resolver::with("db", 3306, |_, _| Ok((0..200).map(address).collect()));
        assert_eq!(resolver.resolve(Duration::from_secs(10)).await.unwrap().len(), 8);
    }
}
