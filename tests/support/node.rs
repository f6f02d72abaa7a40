//! A node that plays any state of a Galera cluster, and misbehaves at any byte.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use galera_probe::node::connector::Connect;
use galera_probe::node::security::Security;
use galera_probe::node::transport::{Transport, TransportFuture};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::time::sleep;

use super::wire;

pub const USER: &str = "galera_probe";
pub const PASSWORD: &str = "secret";

/// How the node behaves from now on, on connections that are open as well.
#[derive(Clone, Debug)]
pub struct Script {
    /// Sent instead of the greeting, then the connection is closed.
    pub instead_of_greeting: Option<Vec<u8>>,
    /// Sent instead of the reply to the login, then the connection is closed.
    pub instead_of_login: Option<Vec<u8>>,
    /// The login takes an authentication switch.
    pub switch: bool,
    /// The login takes a switch to this plugin, and its turns.
    pub plugin: Option<Plugin>,
    /// TLS is offered, and begun like this.
    pub tls: Option<Tls>,
    /// The account's password.
    pub password: String,
    /// Answered to every statement.
    pub statement_error: Option<(u16, String)>,
    /// What SHOW STATUS and SHOW VARIABLES say.
    pub variables: BTreeMap<String, String>,
    /// Nothing is sent; connections are accepted, as a stopped process's kernel does.
    pub frozen: bool,
    pub fault: Fault,
}

/// An account's plugin that takes more than one turn.
#[derive(Clone, Copy, Debug)]
pub enum Plugin {
    /// With the password in the server's cache, or not.
    CachingSha2 { cached: bool },
    /// The signature is not looked at.
    Parsec,
}

/// Anything that bytes go through.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// How a node begins TLS.
#[derive(Clone)]
pub struct Tls(pub Arc<dyn Fn(DuplexStream) -> Accepting + Send + Sync>);

pub type Accepting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Io>>> + Send>>;

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

/// What goes wrong with the bytes that the node sends on one connection.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    None,
    /// After so many bytes nothing more comes.
    StallAfter(usize),
    /// After so many bytes nothing more comes, until the script is another.
    FreezeAfter(usize),
    /// After so many bytes the connection is closed.
    CloseAfter(usize),
    /// After so many bytes the rest comes one byte at a time.
    DripAfter(usize, Duration),
}

impl Script {
    /// A synced node of a three-node cluster.
    pub fn synced() -> Self {
        let variables = [
            ("wsrep_cluster_status", "Primary"),
            ("wsrep_connected", "ON"),
            ("wsrep_local_index", "0"),
            ("wsrep_local_state", "4"),
            ("wsrep_ready", "ON"),
            ("read_only", "OFF"),
            ("wsrep_desync", "OFF"),
            ("wsrep_on", "ON"),
            ("wsrep_reject_queries", "NONE"),
            ("wsrep_sst_donor_rejects_queries", "OFF"),
        ];
        Self {
            instead_of_greeting: None,
            instead_of_login: None,
            switch: false,
            plugin: None,
            tls: None,
            password: PASSWORD.to_owned(),
            statement_error: None,
            variables: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            frozen: false,
            fault: Fault::None,
        }
    }

    /// The same node with other values.
    pub fn with(mut self, variables: &[(&str, &str)]) -> Self {
        for (name, value) in variables {
            self.variables.insert((*name).to_owned(), (*value).to_owned());
        }
        self
    }

    pub fn donor() -> Self {
        Self::synced().with(&[("wsrep_local_state", "2")])
    }

    pub fn non_primary() -> Self {
        Self::synced().with(&[
            ("wsrep_cluster_status", "non-Primary"),
            ("wsrep_local_state", "0"),
            ("wsrep_ready", "OFF"),
        ])
    }

    pub fn frozen() -> Self {
        Self { frozen: true, ..Self::synced() }
    }

    pub fn fault(fault: Fault) -> Self {
        Self { fault, ..Self::synced() }
    }
}

/// What the node has seen.
#[derive(Debug, Default)]
pub struct Seen {
    pub connections: AtomicUsize,
    pub open: AtomicUsize,
    pub most_open: AtomicUsize,
    pub logins: AtomicUsize,
    pub quits: AtomicUsize,
    /// Bytes sent in the greeting, tls, login and query steps of the last connection.
    pub sent: Mutex<[usize; 4]>,
}

impl Seen {
    /// Connections that ended before their login was complete: what a server
    /// holds against the prober's address.
    pub fn unfinished(&self) -> usize {
        self.connections.load(SeqCst) - self.open.load(SeqCst) - self.logins.load(SeqCst)
    }
}

/// The node. Clones are the same node.
#[derive(Clone)]
pub struct Node {
    script: Arc<watch::Sender<Script>>,
    security: Security,
    pub seen: Arc<Seen>,
}

impl Node {
    pub fn new(script: Script) -> Self {
        let script = Arc::new(watch::Sender::new(script));
        Self { script, security: Security::default(), seen: Arc::default() }
    }

    /// The same node, come to in this way.
    pub fn over(self, security: Security) -> Self {
        Self { security, ..self }
    }

    /// From now on the node behaves like this.
    pub fn set_script(&self, script: Script) {
        self.script.send_replace(script);
    }

    /// Serves every connection, for ever.
    pub async fn listen(self, listener: TcpListener) -> io::Result<()> {
        loop {
            let (stream, _) = listener.accept().await?;
            // As servers do.
            stream.set_nodelay(true)?;
            tokio::spawn(self.clone().play(Box::new(stream)));
        }
    }

    /// The same on a Unix socket.
    pub async fn listen_unix(self, listener: UnixListener) -> io::Result<()> {
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(self.clone().play(Box::new(stream)));
        }
    }

    /// One connection, to its end.
    async fn play(self, stream: Box<dyn Transport>) {
        let seen = &self.seen;
        seen.connections.fetch_add(1, SeqCst);
        let open = seen.open.fetch_add(1, SeqCst) + 1;
        seen.most_open.fetch_max(open, SeqCst);
        let (mut reading, writing) = tokio::io::split(stream);
        let mut logged_in = false;
        let step = AtomicUsize::new(0);
        let mut wire = Wire::new(writing, self.script.subscribe(), &step);
        let ended = self.talk(&mut reading, &mut wire, &mut logged_in).await;
        if ended.is_err_and(|error| error.kind() == STALLED) {
            // Nothing more is said, until the client goes.
            let _ = tokio::io::copy(&mut reading, &mut tokio::io::sink()).await;
        }
        *seen.sent.lock().unwrap() = wire.steps;
        if logged_in {
            seen.logins.fetch_add(1, SeqCst);
        }
        seen.open.fetch_sub(1, SeqCst);
    }

    async fn talk(
        &self,
        reading: &mut (impl AsyncReadExt + Unpin),
        wire: &mut Wire<'_, impl AsyncWriteExt + Unpin>,
        logged_in: &mut bool,
    ) -> io::Result<()> {
        let script = wire.script.borrow().clone();
        if let Some(bytes) = script.instead_of_greeting {
            return wire.send(&bytes).await;
        }
        wire.send(&wire::greeting_of(script.tls.is_some())).await?;

        let first = wire::read_packet(reading).await?;
        let script = wire.script.borrow().clone();
        match script.tls {
            Some(tls) if wire::is_ssl_request(&first.1) => {
                self.talk_tls(tls, reading, wire, logged_in).await
            }
            _ => self.log_in(first, reading, wire, logged_in).await,
        }
    }

    /// What TLS makes of the probe run goes through the faults of the wire.
    async fn talk_tls(
        &self,
        tls: Tls,
        reading: &mut (impl AsyncReadExt + Unpin),
        wire: &mut Wire<'_, impl AsyncWriteExt + Unpin>,
        logged_in: &mut bool,
    ) -> io::Result<()> {
        let (near, far) = duplex(64 * 1024);
        let (mut from_tls, mut to_tls) = tokio::io::split(far);
        let (step, script) = (wire.step, self.script.subscribe());
        step.store(1, SeqCst);
        let inside = async {
            let (mut reading, writing) = tokio::io::split(tls.0(near).await?);
            let mut wire = Wire { faultless: true, ..Wire::new(writing, script, step) };
            let first = wire::read_packet(&mut reading).await?;
            self.log_in(first, &mut reading, &mut wire, logged_in).await
        };
        let outward = async {
            let mut bytes = [0; 4096];
            loop {
                match from_tls.read(&mut bytes).await? {
                    0 => return Ok::<_, io::Error>(()),
                    length => wire.send(&bytes[..length]).await?,
                }
            }
        };
        let inward = async {
            tokio::io::copy(reading, &mut to_tls).await?;
            to_tls.shutdown().await?;
            std::future::pending().await
        };
        tokio::select! {
            // What was said inside before it ended goes outward first.
            both = async { tokio::try_join!(async { Ok(inside.await) }, outward) } => both?.0,
            error = inward => error,
        }
    }

    async fn log_in(
        &self,
        (mut sequence, login): (u8, Vec<u8>),
        reading: &mut (impl AsyncReadExt + Unpin),
        wire: &mut Wire<'_, impl AsyncWriteExt + Unpin>,
        logged_in: &mut bool,
    ) -> io::Result<()> {
        wire.step.store(2, SeqCst);
        let script = wire.script.borrow().clone();
        if let Some(bytes) = script.instead_of_login {
            return wire.send(&bytes).await;
        }
        let (user, mut scramble) =
            wire::read_login(&login).ok_or(io::Error::from(io::ErrorKind::InvalidData))?;
        let mut nonce = wire::NONCE;
        let switched;
        if script.switch {
            nonce = wire::SWITCH_NONCE;
            wire.send(&wire::switch(sequence + 1, "mysql_native_password", nonce)).await?;
            (sequence, switched) = wire::read_packet(reading).await?;
            scramble = &switched;
        }
        let accepted = match script.plugin {
            None => wire::accepts(&script.password, nonce, scramble),
            Some(plugin) => take_turns(plugin, &script, &mut sequence, reading, wire).await?,
        };
        if user != USER.as_bytes() || !accepted {
            let text = format!("Access denied for user '{USER}'@'10.0.0.9' (using password: YES)");
            return wire.send(&wire::err(sequence + 1, 1045, &text)).await;
        }
        wire.send(&wire::ok(sequence + 1)).await?;
        *logged_in = true;

        loop {
            let (sequence, command) = wire::read_packet(reading).await?;
            wire.step.store(3, SeqCst);
            if sequence != 0 {
                return Err(io::ErrorKind::InvalidData.into());
            }
            match command.split_first() {
                Some((0x01, [])) => {
                    self.seen.quits.fetch_add(1, SeqCst);
                    return Ok(());
                }
                Some((0x03, statement)) => {
                    let script = wire.script.borrow().clone();
                    wire.send(&reply(&script, &String::from_utf8_lossy(statement))).await?;
                }
                _ => return wire.send(&wire::err(1, 1047, "Unknown command")).await,
            }
        }
    }
}

/// The turns of a plugin, to whether the server accepts what was said.
async fn take_turns(
    plugin: Plugin,
    script: &Script,
    sequence: &mut u8,
    reading: &mut (impl AsyncReadExt + Unpin),
    wire: &mut Wire<'_, impl AsyncWriteExt + Unpin>,
) -> io::Result<bool> {
    let (name, nonce) = match plugin {
        Plugin::CachingSha2 { .. } => ("caching_sha2_password", &wire::SWITCH_NONCE[..]),
        Plugin::Parsec => ("parsec", &[7; 32][..]),
    };
    wire.send(&wire::switch(*sequence + 1, name, nonce)).await?;
    let scramble;
    (*sequence, scramble) = wire::read_packet(reading).await?;
    let more: &[u8] = match plugin {
        Plugin::CachingSha2 { cached: true } => {
            *sequence += 1;
            wire.send(&wire::packet(*sequence, &[1, 3])).await?;
            return Ok(wire::accepts_sha2(&script.password, nonce, &scramble));
        }
        Plugin::CachingSha2 { cached: false } => &[1, 4],
        Plugin::Parsec => b"P\0some salt",
    };
    wire.send(&wire::packet(*sequence + 1, more)).await?;
    let answer;
    (*sequence, answer) = wire::read_packet(reading).await?;
    Ok(match plugin {
        Plugin::CachingSha2 { .. } => answer == [script.password.as_bytes(), b"\0"].concat(),
        Plugin::Parsec => answer.len() == 32 + 64,
    })
}

/// In memory, so that the clock can be paused.
impl Connect for Node {
    fn connect(&self, _budget: Duration) -> TransportFuture {
        let node = self.clone();
        Box::pin(async move {
            let (client, server) = duplex(4096);
            tokio::spawn(node.play(Box::new(server)));
            Ok(Box::new(client) as Box<dyn Transport>)
        })
    }

    fn security(&self) -> Security {
        self.security.clone()
    }
}

fn reply(script: &Script, statement: &str) -> Vec<u8> {
    if let Some((code, text)) = &script.statement_error {
        return wire::err(1, *code, text);
    }
    if let Some(columns) = statement.strip_prefix("SELECT ") {
        let names = columns.split(',').filter(|column| !column.starts_with("@@"));
        let pairs = names.map(|name| {
            let name = name.trim_matches('\'').to_owned();
            Some([name.clone(), script.variables.get(&name)?.clone()])
        });
        return match pairs.collect::<Option<Vec<_>>>() {
            Some(pairs) => {
                let row = pairs.concat();
                wire::table(u8::try_from(row.len()).unwrap(), &[row])
            }
            None => wire::err(1, 1193, "Unknown system variable"),
        };
    }
    if !statement.starts_with("SHOW") {
        return wire::ok(1);
    }
    let asked = |name: &String| statement.contains(&format!("'{name}'"));
    let rows: Vec<_> =
        script.variables.clone().into_iter().filter(|(name, _)| asked(name)).collect();
    wire::rows(&rows)
}

/// How a scripted stall leaves the probe run.
const STALLED: io::ErrorKind = io::ErrorKind::TimedOut;

/// Sends through the script's fault.
struct Wire<'a, W> {
    writing: W,
    script: watch::Receiver<Script>,
    faultless: bool,
    sent: usize,
    step: &'a AtomicUsize,
    steps: [usize; 4],
}

impl<'a, W: AsyncWriteExt + Unpin> Wire<'a, W> {
    fn new(writing: W, script: watch::Receiver<Script>, step: &'a AtomicUsize) -> Self {
        Self { writing, script, faultless: false, sent: 0, step, steps: [0; 4] }
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.faultless {
            return self.write(bytes).await;
        }
        let whole = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        let fault = self.script.wait_for(|script| !script.frozen).await.map_err(whole)?.fault;
        let before = match fault {
            Fault::None => bytes.len(),
            Fault::StallAfter(n)
            | Fault::FreezeAfter(n)
            | Fault::CloseAfter(n)
            | Fault::DripAfter(n, _) => n.saturating_sub(self.sent).min(bytes.len()),
        };
        self.write(&bytes[..before]).await?;
        let rest = &bytes[before..];
        if rest.is_empty() {
            return Ok(());
        }
        match fault {
            Fault::None => Ok(()),
            Fault::StallAfter(_) => Err(STALLED.into()),
            Fault::FreezeAfter(_) => {
                let other = |script: &Script| !matches!(script.fault, Fault::FreezeAfter(_));
                self.script.wait_for(other).await.map_err(whole)?;
                self.write(rest).await
            }
            Fault::CloseAfter(_) => Err(io::ErrorKind::BrokenPipe.into()),
            Fault::DripAfter(_, pause) => {
                for byte in rest {
                    sleep(pause).await;
                    self.write(&[*byte]).await?;
                }
                Ok(())
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writing.write_all(bytes).await?;
        self.writing.flush().await?;
        self.sent += bytes.len();
        self.steps[self.step.load(SeqCst)] += bytes.len();
        Ok(())
    }
}
