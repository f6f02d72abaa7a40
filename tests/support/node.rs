//! A node that plays any state of a Galera cluster, and misbehaves at any byte.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use galera_probe::connect::{Connect, Opening, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
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
    /// Bytes sent in the greeting, login and query steps of the last connection.
    pub sent: Mutex<[usize; 3]>,
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
    pub seen: Arc<Seen>,
}

impl Node {
    pub fn new(script: Script) -> Self {
        Self { script: Arc::new(watch::Sender::new(script)), seen: Arc::default() }
    }

    /// From now on the node behaves like this.
    pub fn become_(&self, script: Script) {
        self.script.send_replace(script);
    }

    /// Serves every connection, for ever.
    pub async fn listen(self, listener: TcpListener) -> io::Result<()> {
        loop {
            let (stream, _) = listener.accept().await?;
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
    async fn play(self, stream: Box<dyn Stream>) {
        let seen = &self.seen;
        seen.connections.fetch_add(1, SeqCst);
        let open = seen.open.fetch_add(1, SeqCst) + 1;
        seen.most_open.fetch_max(open, SeqCst);
        let (mut reading, writing) = tokio::io::split(stream);
        let mut logged_in = false;
        let mut wire =
            Wire { writing, script: self.script.subscribe(), sent: 0, step: 0, steps: [0; 3] };
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
        wire: &mut Wire<impl AsyncWriteExt + Unpin>,
        logged_in: &mut bool,
    ) -> io::Result<()> {
        let script = wire.script.borrow().clone();
        if let Some(bytes) = script.instead_of_greeting {
            return wire.send(&bytes).await;
        }
        wire.send(&wire::greeting()).await?;

        let (mut sequence, login) = wire::read_packet(reading).await?;
        wire.step = 1;
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
        if user != USER.as_bytes() || !wire::accepts(&script.password, nonce, scramble) {
            let text = format!("Access denied for user '{USER}'@'10.0.0.9' (using password: YES)");
            return wire.send(&wire::err(sequence + 1, 1045, &text)).await;
        }
        wire.send(&wire::ok(sequence + 1)).await?;
        *logged_in = true;

        wire.step = 2;
        loop {
            let (sequence, command) = wire::read_packet(reading).await?;
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

/// In memory, so that the clock can be paused.
impl Connect for Node {
    fn connect(&self, _budget: Duration) -> Opening {
        let node = self.clone();
        Box::pin(async move {
            let (client, server) = duplex(4096);
            tokio::spawn(node.play(Box::new(server)));
            Ok(Box::new(client) as Box<dyn Stream>)
        })
    }
}

fn reply(script: &Script, statement: &str) -> Vec<u8> {
    if let Some((code, text)) = &script.statement_error {
        return wire::err(1, *code, text);
    }
    if !statement.starts_with("SHOW") {
        return wire::ok(1);
    }
    let asked = |name: &String| statement.contains(&format!("'{name}'"));
    let rows: Vec<_> =
        script.variables.clone().into_iter().filter(|(name, _)| asked(name)).collect();
    wire::rows(&rows)
}

/// How a scripted stall leaves the dialogue.
const STALLED: io::ErrorKind = io::ErrorKind::TimedOut;

/// Sends through the script's fault.
struct Wire<W> {
    writing: W,
    script: watch::Receiver<Script>,
    sent: usize,
    step: usize,
    steps: [usize; 3],
}

impl<W: AsyncWriteExt + Unpin> Wire<W> {
    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
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
        self.steps[self.step] += bytes.len();
        Ok(())
    }
}
