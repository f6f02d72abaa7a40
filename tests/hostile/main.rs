//! Hostile servers and clients: the verdict or response for each, the time until then,
//! and the memory that each costs.
//!
//! Times are exact, on tokio's paused clock. Memory is measured on the program's binary.

#[path = "../support/program.rs"]
mod program;
#[path = "../support/mod.rs"]
mod support;

mod clients;
mod memory;
mod servers;

use std::future::pending;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::sleep;

const AT_ONCE: Duration = Duration::ZERO;
const SECOND: Duration = Duration::from_secs(1);

/// One action of a hostile peer. After its last move, a peer keeps its connection open and
/// sends nothing.
#[derive(Clone, Debug)]
enum Move {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Sends these bytes again and again, without an end.
    Repeat(Vec<u8>),
    /// Sends these bytes again and again, each byte after this pause.
    Drip(Vec<u8>, Duration),
    /// Closes the connection.
    Close,
}

fn send(bytes: impl Into<Vec<u8>>) -> Move {
    Move::Send(bytes.into())
}

/// Makes a peer's moves, until the other side closes or the peer does. The caller reads
/// what the other side sends.
async fn play(mut writer: impl AsyncWrite + Unpin, moves: Vec<Move>) -> io::Result<()> {
    for next in moves {
        match next {
            Move::Send(bytes) => writer.write_all(&bytes).await?,
            Move::Repeat(bytes) => loop {
                writer.write_all(&bytes).await?;
            },
            Move::Drip(bytes, pause) => loop {
                for byte in &bytes {
                    sleep(pause).await;
                    writer.write_all(&[*byte]).await?;
                }
            },
            Move::Close => return writer.shutdown().await,
        }
    }
    pending().await
}
