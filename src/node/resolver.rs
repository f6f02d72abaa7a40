//! Resolves the node's host name on a background thread.
//!
//! The system's resolver blocks without a deadline: half a minute or longer with three
//! silent name servers. On a background thread, it delays neither a response nor the exit of
//! the program.

use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tracing::warn;

use crate::os::background::BackgroundTask;

/// How long addresses are used after the last successful lookup. Later they may belong to
/// another host.
const MAX_STALE: Duration = Duration::from_secs(10 * 60);

/// The maximum number of addresses to try. The name of a single node has fewer.
const MAX_ADDRESSES: usize = 8;

/// Resolves one host name. Clones share the running lookup and its result.
#[derive(Clone)]
pub struct Resolver {
    host: Arc<str>,
    port: u16,
    lookup: BackgroundTask<Outcome>,
    cache: Arc<Mutex<Cache>>,
}

#[derive(Default)]
struct Cache {
    /// The addresses from the last successful lookup, and its time.
    found: Option<(Vec<SocketAddr>, Instant)>,
    /// Whether the fallback to these addresses was logged since the last successful lookup.
    is_fallback_logged: bool,
}

/// The result of one lookup. `io::Error` is not `Clone`.
type Outcome = Result<Vec<SocketAddr>, Arc<io::Error>>;

impl Resolver {
    /// Creates a resolver for `host`, a name or an IP address. The port is added to each
    /// address that it returns.
    pub fn new(host: &str, port: u16) -> Self {
        Self::with_system(host, port, |host, port| Ok((host, port).to_socket_addrs()?.collect()))
    }

    fn with_system(
        host: &str,
        port: u16,
        system: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        let host: Arc<str> = host.into();
        let cache: Arc<Mutex<Cache>> = Arc::default();
        let (name, shared) = (Arc::clone(&host), Arc::clone(&cache));
        let remember = move |outcome: Outcome| {
            if let Ok(addresses) = &outcome {
                let found = Some((addresses.clone(), Instant::now()));
                *lock(&shared) = Cache { found, is_fallback_logged: false };
            }
            outcome
        };
        let lookup =
            BackgroundTask::new("resolver", move || look_up(&name, port, &system), remember);
        Self { host, port, lookup, cache }
    }

    /// Returns one to eight addresses.
    ///
    /// If the lookup fails or takes longer than `limit`, returns the addresses from the last
    /// successful lookup, if they are under ten minutes old. Without such addresses, waits
    /// for the lookup without a timeout: the caller drops the future at its deadline.
    ///
    /// `limit` counts from the start of the lookup, which an earlier call may have started.
    ///
    /// # Errors
    /// The error of the system's resolver. `NotFound` if the name has no address.
    pub async fn resolve(&self, limit: Duration) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, self.port)]);
        }
        let lookup = match (self.lookup.run(), self.cached()) {
            (Ok(lookup), _) => lookup,
            (Err(error), Some(cached)) => return Ok(self.fall_back(cached, &error.to_string())),
            (Err(error), None) => return Err(error),
        };
        let outcome = match self.cached() {
            None => lookup.outcome().await,
            Some(cached) => match timeout(lookup.time_left(limit), lookup.outcome()).await {
                Ok(outcome) => outcome,
                Err(_) => return Ok(self.fall_back(cached, "timed out")),
            },
        };
        match (outcome, self.cached()) {
            (Some(Ok(addresses)), _) => Ok(addresses),
            (Some(Err(error)), Some(cached)) => Ok(self.fall_back(cached, &error.to_string())),
            (Some(Err(error)), None) => Err(copy(&error)),
            (None, _) => Err(io::Error::other("the lookup was given up")),
        }
    }

    /// Returns the cached addresses. Logs that once until a lookup succeeds.
    fn fall_back(&self, cached: Vec<SocketAddr>, error: &str) -> Vec<SocketAddr> {
        if !mem::replace(&mut lock(&self.cache).is_fallback_logged, true) {
            warn!(host = %self.host, error, "the name does not resolve: using its last addresses");
        }
        cached
    }

    fn cached(&self) -> Option<Vec<SocketAddr>> {
        let cache = lock(&self.cache);
        let (addresses, found_at) = cache.found.as_ref()?;
        (found_at.elapsed() < MAX_STALE).then(|| addresses.clone())
    }
}

fn look_up(
    host: &str,
    port: u16,
    system: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>>,
) -> Outcome {
    let mut addresses = system(host, port)?;
    addresses.truncate(MAX_ADDRESSES);
    match addresses.is_empty() {
        true => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address").into()),
        false => Ok(addresses),
    }
}

fn copy(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

fn lock(cache: &Mutex<Cache>) -> MutexGuard<'_, Cache> {
    cache.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// A resolver whose lookups wait for a result from the test; the sender of the results;
    /// the number of lookups.
    fn controlled() -> (Resolver, Sender<io::Result<Vec<SocketAddr>>>, Arc<AtomicUsize>) {
        let (results, lookups) = channel();
        let lookups = Mutex::new(lookups);
        let count = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&count);
        let resolver = Resolver::with_system("db", 3306, move |_, _| {
            counter.fetch_add(1, SeqCst);
            lookups.lock().unwrap().recv().unwrap()
        });
        (resolver, results, count)
    }

    fn failure() -> io::Result<Vec<SocketAddr>> {
        Err(io::Error::other("no such name"))
    }

    #[tokio::test]
    async fn an_ip_address_needs_no_lookup() {
        for host in ["192.0.2.7", "::1"] {
            let resolver = Resolver::with_system(host, 1, |_, _| panic!("a lookup"));
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
    async fn a_lookup_that_hangs_is_shared_and_each_caller_can_give_up() {
        let (resolver, results, count) = controlled();
        for _ in 0..20 {
            let waited = timeout(Duration::from_millis(1), resolver.resolve(Duration::ZERO)).await;
            assert!(waited.is_err());
        }
        assert_eq!(count.load(SeqCst), 1);
        let send = async { results.send(Ok(vec![address(1)])).unwrap() };
        let (resolved, ()) = tokio::join!(resolver.resolve(Duration::from_secs(10)), send);
        assert_eq!(resolved.unwrap(), [address(1)]);
        assert_eq!(count.load(SeqCst), 1);
    }

    #[tokio::test]
    async fn the_last_addresses_are_used_if_the_lookup_fails_or_hangs() {
        let (resolver, results, count) = controlled();
        let found = [address(1), address(2)];
        let long = Duration::from_secs(10);
        results.send(Ok(found.to_vec())).unwrap();
        assert_eq!(resolver.resolve(long).await.unwrap(), found);
        results.send(failure()).unwrap();
        assert_eq!(resolver.resolve(long).await.unwrap(), found);
        for _ in 0..20 {
            assert_eq!(resolver.resolve(Duration::from_millis(1)).await.unwrap(), found);
        }
        assert_eq!(count.load(SeqCst), 3);
        results.send(Ok(vec![address(3)])).unwrap();
        while resolver.resolve(Duration::ZERO).await.unwrap() != [address(3)] {
            results.send(Ok(vec![address(3)])).unwrap();
        }
    }

    #[tokio::test]
    async fn addresses_older_than_ten_minutes_are_not_used() {
        let (resolver, results, _) = controlled();
        let long_ago = Instant::now().checked_sub(MAX_STALE).unwrap();
        lock(&resolver.cache).found = Some((vec![address(1)], long_ago));
        results.send(failure()).unwrap();
        assert!(resolver.resolve(Duration::from_secs(10)).await.is_err());
    }

    #[tokio::test]
    async fn a_name_without_an_address_is_an_error() {
        let resolver = Resolver::with_system("db", 3306, |_, _| Ok(Vec::new()));
        let error = resolver.resolve(Duration::from_secs(10)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn a_name_gives_at_most_eight_addresses() {
        let resolver =
            Resolver::with_system("db", 3306, |_, _| Ok((0..200).map(address).collect()));
        assert_eq!(resolver.resolve(Duration::from_secs(10)).await.unwrap().len(), 8);
    }

    #[tokio::test]
    async fn an_error_keeps_its_code_or_its_kind_and_text() {
        let (resolver, results, _) = controlled();
        let (code, other) = (io::Error::from_raw_os_error(24), io::Error::other("no such name"));
        for (error, code, text) in
            [(code, Some(24), "Too many open files (os error 24)"), (other, None, "no such name")]
        {
            results.send(Err(error)).unwrap();
            let error = resolver.resolve(Duration::from_secs(10)).await.unwrap_err();
            assert_eq!((error.raw_os_error(), error.to_string().as_str()), (code, text));
        }
    }
}
