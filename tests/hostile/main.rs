//! Peers that mean harm, from end to end: what each of them gets, how long it may
//! take, and how much memory it can cost.
//!
//! Times are exact, on a clock that only the tests move; memory is that of the
//! real program.

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

/// What a peer does, one after the other. In the end it stays silent and open.
#[derive(Clone, Debug)]
enum Move {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Sends these bytes for ever.
    Repeat(Vec<u8>),
    /// Sends these bytes for ever, each after such a pause.
    Drip(Vec<u8>, Duration),
    /// Closes its connection.
    Close,
}

fn send(bytes: impl Into<Vec<u8>>) -> Move {
    Move::Send(bytes.into())
}

/// Plays the moves until the other side goes. Whatever it sends is somebody else's
/// to read.
async fn play(mut writing: impl AsyncWrite + Unpin, moves: Vec<Move>) -> io::Result<()> {
    for next in moves {
        match next {
            Move::Send(bytes) => writing.write_all(&bytes).await?,
            Move::Repeat(bytes) => loop {
                writing.write_all(&bytes).await?;
            },
            Move::Drip(bytes, pause) => loop {
                for byte in &bytes {
                    sleep(pause).await;
                    writing.write_all(&[*byte]).await?;
                }
            },
            Move::Close => return writing.shutdown().await,
        }
    }
    pending().await
}
