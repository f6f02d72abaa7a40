//! A stand-in node: it plays any state of a Galera node, and can fail at any byte.

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

/// How the node behaves. A new script applies to open connections too.
#[derive(Clone, Debug)]
pub struct Script {
    /// Bytes to send instead of the greeting, before the node closes the connection.
    pub instead_of_greeting: Option<Vec<u8>>,
    /// Bytes to send instead of the reply to the login, before the node closes the
    /// connection.
    pub instead_of_login: Option<Vec<u8>>,
    /// Sends an AuthSwitchRequest for mysql_native_password with another nonce.
    pub switch: bool,
    /// Sends an AuthSwitchRequest for this plugin.
    pub plugin: Option<Plugin>,
    /// Offers TLS.
    pub tls: Option<Tls>,
    /// Proves by the password that the certificate with this fingerprint is its own.
    pub proves: Option<[u8; 32]>,
    /// The account's password.
    pub password: String,
    /// The error code and text that answer every statement.
    pub statement_error: Option<(u16, String)>,
    /// The replies to the first statements of each connection. The node itself answers those
    /// after them.
    pub replies: Vec<Vec<u8>>,
    /// Bytes to send instead of the reply to a SELECT.
    pub instead_of_select: Option<Vec<u8>>,
    /// What the node replies to a causality check.
    pub contact: Contact,
    /// The status and system variables.
    pub variables: BTreeMap<String, String>,
    /// Accepts connections and sends nothing, as a host does whose server process is
    /// stopped.
    pub frozen: bool,
    /// The fault of each connection.
    pub fault: Fault,
}

/// The node's contact with its group, as a causality check finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contact {
    /// The check passes at once.
    Proven,
    /// The node does not reply until the script changes.
    Awaited,
    /// Error 1205.
    Lost,
    /// The server has no causality check.
    Unknown,
}

/// An authentication plugin that needs more than one round trip.
#[derive(Clone, Copy, Debug)]
pub enum Plugin {
    /// caching_sha2_password. `cached`: the server has the password in its cache.
    CachingSha2 { cached: bool },
    /// parsec. The node does not verify the signature.
    Parsec,
}

/// A byte stream of any kind.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Performs the server side of the TLS handshake.
#[derive(Clone)]
pub struct Tls(pub Arc<dyn Fn(DuplexStream) -> Accepting + Send + Sync>);

pub type Accepting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Io>>> + Send>>;

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

/// A fault in the bytes that the node sends on one connection.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    None,
    /// Sends nothing after this many bytes, even if the script changes.
    StallAfter(usize),
    /// Sends nothing after this many bytes, until the script has another kind of fault.
    FreezeAfter(usize),
    /// Closes the connection after this many bytes.
    CloseAfter(usize),
    /// After this many bytes, sends one byte per pause.
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
            ("version", "10.11.19-MariaDB"),
        ];
        Self {
            instead_of_greeting: None,
            instead_of_login: None,
            switch: false,
            plugin: None,
            tls: None,
            proves: None,
            password: PASSWORD.to_owned(),
            statement_error: None,
            replies: Vec::new(),
            instead_of_select: None,
            contact: Contact::Proven,
            variables: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            frozen: false,
            fault: Fault::None,
        }
    }

    /// The same node with these variables changed.
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
        Self::synced()
            .with(&[
                ("wsrep_cluster_status", "non-Primary"),
                ("wsrep_local_state", "0"),
                ("wsrep_ready", "OFF"),
            ])
            .contact(Contact::Lost)
    }

    /// The same node with this contact to its group.
    pub fn contact(self, contact: Contact) -> Self {
        Self { contact, ..self }
    }

    pub fn frozen() -> Self {
        Self { frozen: true, ..Self::synced() }
    }

    pub fn fault(fault: Fault) -> Self {
        Self { fault, ..Self::synced() }
    }
}

/// Counts what the node has seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Connections since the start.
    pub connections: AtomicUsize,
    /// Connections that are open now.
    pub open: AtomicUsize,
    /// The most connections that were open at the same time.
    pub most_open: AtomicUsize,
    /// Closed connections that had completed their login.
    pub logins: AtomicUsize,
    /// COM_QUIT commands.
    pub quits: AtomicUsize,
    /// Statements.
    pub statements: AtomicUsize,
    /// SHOW VARIABLES statements.
    pub shows: AtomicUsize,
    /// SELECT statements for variables.
    pub selects: AtomicUsize,
    /// Causality checks.
    pub checks: AtomicUsize,
    /// Bytes that the node sent on the last connection, in the steps greeting, tls, login and
    /// query.
    pub sent: Mutex<[usize; 4]>,
}

impl Seen {
    /// Closed connections that had not completed their login. A server counts them against
    /// the client's address (max_connect_errors).
    pub fn unfinished(&self) -> usize {
        self.connections.load(SeqCst) - self.open.load(SeqCst) - self.logins.load(SeqCst)
    }
}

/// The stand-in node. Clones are the same node.
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

    /// The same node, with this protection of its transports.
    pub fn over(self, security: Security) -> Self {
        Self { security, ..self }
    }

    /// Changes how the node behaves from now on.
    pub fn set_script(&self, script: Script) {
        self.script.send_replace(script);
    }

    /// Serves every connection to a TCP listener.
    pub async fn listen(self, listener: TcpListener) -> io::Result<()> {
        loop {
            let (stream, _) = listener.accept().await?;
            // A real server sets it too.
            stream.set_nodelay(true)?;
            tokio::spawn(self.clone().play(Box::new(stream)));
        }
    }

    /// Serves every connection to a Unix socket.
    pub async fn listen_unix(self, listener: UnixListener) -> io::Result<()> {
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(self.clone().play(Box::new(stream)));
        }
    }

    /// Serves one connection until it ends.
    async fn play(self, stream: Box<dyn Transport>) {
        let seen = &self.seen;
        seen.connections.fetch_add(1, SeqCst);
        let open = seen.open.fetch_add(1, SeqCst) + 1;
        seen.most_open.fetch_max(open, SeqCst);
        let (mut reading, writing) = tokio::io::split(stream);
        let mut logged_in = false;
        let step = AtomicUsize::new(0);
        let mut writer = FaultyWriter::new(writing, self.script.subscribe(), &step);
        let result = self.converse(&mut reading, &mut writer, &mut logged_in).await;
        if result.is_err_and(|error| error.kind() == STALLED) {
            // Send nothing more until the client closes the connection.
            let _ = tokio::io::copy(&mut reading, &mut tokio::io::sink()).await;
        }
        *seen.sent.lock().unwrap() = writer.sent_by_step;
        if logged_in {
            seen.logins.fetch_add(1, SeqCst);
        }
        seen.open.fetch_sub(1, SeqCst);
    }

    async fn converse(
        &self,
        reading: &mut (impl AsyncReadExt + Unpin),
        writer: &mut FaultyWriter<'_, impl AsyncWriteExt + Unpin>,
        logged_in: &mut bool,
    ) -> io::Result<()> {
        let script = writer.script.borrow().clone();
        if let Some(bytes) = script.instead_of_greeting {
            return writer.send(&bytes).await;
        }
        writer.send(&wire::greeting_of(script.tls.is_some())).await?;

        let first = wire::read_packet(reading).await?;
        let script = writer.script.borrow().clone();
        match script.tls {
            Some(tls) if wire::is_ssl_request(&first.1) => {
                self.converse_over_tls(tls, reading, writer, logged_in).await
            }
            _ => self.log_in(first, reading, writer, logged_in).await,
        }
    }

    /// Continues the conversation inside TLS. The script's fault applies to the encrypted
    /// bytes.
    async fn converse_over_tls(
        &self,
        tls: Tls,
        reading: &mut (impl AsyncReadExt + Unpin),
        writer: &mut FaultyWriter<'_, impl AsyncWriteExt + Unpin>,
        logged_in: &mut bool,
    ) -> io::Result<()> {
        let (near, far) = duplex(64 * 1024);
        let (mut from_tls, mut to_tls) = tokio::io::split(far);
        let (step, script) = (writer.step, self.script.subscribe());
        step.store(1, SeqCst);
        let inside = async {
            let (mut reading, writing) = tokio::io::split(tls.0(near).await?);
            let mut writer =
                FaultyWriter { ignores_fault: true, ..FaultyWriter::new(writing, script, step) };
            let first = wire::read_packet(&mut reading).await?;
            self.log_in(first, &mut reading, &mut writer, logged_in).await
        };
        let outward = async {
            let mut bytes = [0; 4096];
            loop {
                match from_tls.read(&mut bytes).await? {
                    0 => return Ok::<_, io::Error>(()),
                    length => writer.send(&bytes[..length]).await?,
                }
            }
        };
        let inward = async {
            tokio::io::copy(reading, &mut to_tls).await?;
            to_tls.shutdown().await?;
            std::future::pending().await
        };
        tokio::select! {
            // When the conversation inside TLS ends, send its last bytes first.
            both = async { tokio::try_join!(async { Ok(inside.await) }, outward) } => both?.0,
            error = inward => error,
        }
    }

    /// Waits as the node does for its group.
    async fn await_contact(&self) {
        let mut script = self.script.subscribe();
        let _ = script.wait_for(|script| script.contact != Contact::Awaited).await;
    }

    async fn log_in(
        &self,
        (mut sequence, login): (u8, Vec<u8>),
        reading: &mut (impl AsyncReadExt + Unpin),
        writer: &mut FaultyWriter<'_, impl AsyncWriteExt + Unpin>,
        logged_in: &mut bool,
    ) -> io::Result<()> {
        writer.step.store(2, SeqCst);
        let script = writer.script.borrow().clone();
        if let Some(bytes) = script.instead_of_login {
            return writer.send(&bytes).await;
        }
        let (user, mut scramble) =
            wire::read_login(&login).ok_or(io::Error::from(io::ErrorKind::InvalidData))?;
        let mut nonce = wire::NONCE;
        let switched;
        if script.switch {
            nonce = wire::SWITCH_NONCE;
            writer.send(&wire::switch(sequence + 1, "mysql_native_password", nonce)).await?;
            (sequence, switched) = wire::read_packet(reading).await?;
            scramble = &switched;
        }
        let accepted = match script.plugin {
            None => wire::accepts(&script.password, nonce, scramble),
            Some(plugin) => authenticate(plugin, &script, &mut sequence, reading, writer).await?,
        };
        if user != USER.as_bytes() || !accepted {
            let text = format!("Access denied for user '{USER}'@'10.0.0.9' (using password: YES)");
            return writer.send(&wire::err(sequence + 1, 1045, &text)).await;
        }
        let ok = match script.proves {
            Some(fingerprint) => {
                wire::ok_with(sequence + 1, &wire::proof(&script.password, &fingerprint))
            }
            None => wire::ok(sequence + 1),
        };
        writer.send(&ok).await?;
        *logged_in = true;

        let mut replies = script.replies.into_iter();
        // wsrep_sync_wait.
        let mut waits = false;
        loop {
            let (sequence, command) = wire::read_packet(reading).await?;
            writer.step.store(3, SeqCst);
            if sequence != 0 {
                return Err(io::ErrorKind::InvalidData.into());
            }
            match command.split_first() {
                Some((0x01, [])) => {
                    self.seen.quits.fetch_add(1, SeqCst);
                    return Ok(());
                }
                Some((0x03, statement)) => {
                    let statement = String::from_utf8_lossy(statement);
                    let seen = &self.seen;
                    match &*statement {
                        "SET SESSION wsrep_sync_wait=0" => waits = false,
                        "SET SESSION wsrep_sync_wait=1" => waits = true,
                        "SELECT 1" => seen.checks.store(seen.checks.load(SeqCst) + 1, SeqCst),
                        _ => {}
                    }
                    if waits && statement.starts_with('S') && !statement.starts_with("SET") {
                        self.await_contact().await;
                    }
                    let script = writer.script.borrow().clone();
                    seen.statements.fetch_add(1, SeqCst);
                    seen.shows.fetch_add(usize::from(statement.contains("VARIABLES")), SeqCst);
                    seen.selects.fetch_add(usize::from(statement.starts_with("SELECT '")), SeqCst);
                    let reply = replies.next().unwrap_or_else(|| reply(&script, &statement));
                    writer.send(&reply).await?;
                }
                _ => return writer.send(&wire::err(1, 1047, "Unknown command")).await,
            }
        }
    }
}

/// Performs the round trips of a plugin. Returns whether the node accepts the login.
async fn authenticate(
    plugin: Plugin,
    script: &Script,
    sequence: &mut u8,
    reading: &mut (impl AsyncReadExt + Unpin),
    writer: &mut FaultyWriter<'_, impl AsyncWriteExt + Unpin>,
) -> io::Result<bool> {
    let (name, nonce) = match plugin {
        Plugin::CachingSha2 { .. } => ("caching_sha2_password", &wire::SWITCH_NONCE[..]),
        Plugin::Parsec => ("parsec", &[7; 32][..]),
    };
    writer.send(&wire::switch(*sequence + 1, name, nonce)).await?;
    let scramble;
    (*sequence, scramble) = wire::read_packet(reading).await?;
    let more: &[u8] = match plugin {
        Plugin::CachingSha2 { cached: true } => {
            *sequence += 1;
            writer.send(&wire::packet(*sequence, &[1, 3])).await?;
            return Ok(wire::accepts_sha2(&script.password, nonce, &scramble));
        }
        Plugin::CachingSha2 { cached: false } => &[1, 4],
        Plugin::Parsec => b"P\0some salt",
    };
    writer.send(&wire::packet(*sequence + 1, more)).await?;
    let answer;
    (*sequence, answer) = wire::read_packet(reading).await?;
    Ok(match plugin {
        Plugin::CachingSha2 { .. } => answer == [script.password.as_bytes(), b"\0"].concat(),
        Plugin::Parsec => answer.len() == 32 + 64,
    })
}

/// Connects in memory, so that a test can pause the clock.
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
    if script.contact == Contact::Unknown && statement.ends_with("wsrep_sync_wait=1") {
        return wire::err(1, 1193, "Unknown system variable");
    }
    if statement == "SELECT 1" {
        return match script.contact {
            Contact::Lost => wire::err(1, 1205, "Lock wait timeout exceeded"),
            _ => wire::table(1, &[vec!["1".to_owned()]]),
        };
    }
    if let Some(columns) = statement.strip_prefix("SELECT ") {
        if let Some(bytes) = &script.instead_of_select {
            return bytes.clone();
        }
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
    let is_queried = |name: &String| statement.contains(&format!("'{name}'"));
    let rows: Vec<_> =
        script.variables.clone().into_iter().filter(|(name, _)| is_queried(name)).collect();
    wire::rows(&rows)
}

/// Marks a scripted stall among the errors that end a conversation.
const STALLED: io::ErrorKind = io::ErrorKind::TimedOut;

/// Sends the node's bytes on one connection, with the script's fault.
struct FaultyWriter<'a, W> {
    writing: W,
    script: watch::Receiver<Script>,
    ignores_fault: bool,
    sent: usize,
    /// The index of the current step in `sent_by_step`.
    step: &'a AtomicUsize,
    sent_by_step: [usize; 4],
}

impl<'a, W: AsyncWriteExt + Unpin> FaultyWriter<'a, W> {
    fn new(writing: W, script: watch::Receiver<Script>, step: &'a AtomicUsize) -> Self {
        Self { writing, script, ignores_fault: false, sent: 0, step, sent_by_step: [0; 4] }
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.ignores_fault {
            return self.write(bytes).await;
        }
        let closed = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        let fault = self.script.wait_for(|script| !script.frozen).await.map_err(closed)?.fault;
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
                let is_changed = |script: &Script| !matches!(script.fault, Fault::FreezeAfter(_));
                self.script.wait_for(is_changed).await.map_err(closed)?;
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
        self.sent_by_step[self.step.load(SeqCst)] += bytes.len();
        Ok(())
    }
}
