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

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy, sink, split};
use tokio::sync::mpsc;
use tokio::time::sleep;

use support::wire;

const AT_ONCE: Duration = Duration::ZERO;
const SECOND: Duration = Duration::from_secs(1);

/// One action of a hostile peer. After its last move, a peer keeps its connection open and
/// sends nothing.
#[derive(Clone, Debug)]
enum Move {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Waits until the client has sent another command.
    AwaitCommand,
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
/// what the other side sends, and reports its commands.
async fn play(
    mut writer: impl AsyncWrite + Unpin,
    mut commands: mpsc::Receiver<()>,
    moves: Vec<Move>,
) -> io::Result<()> {
    for next in moves {
        match next {
            Move::Send(bytes) => writer.write_all(&bytes).await?,
            Move::AwaitCommand => commands.recv().await.ok_or(io::ErrorKind::UnexpectedEof)?,
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

/// For a peer that awaits no commands.
fn no_commands() -> mpsc::Receiver<()> {
    mpsc::channel(1).1
}

/// Makes a hostile server's moves on a connection.
fn serve(stream: impl AsyncRead + AsyncWrite + Send + 'static, moves: Vec<Move>) {
    let (mut reader, writer) = split(stream);
    let (sender, commands) = mpsc::channel(16);
    tokio::spawn(play(writer, commands, moves));
    tokio::spawn(async move {
        while let Ok((sequence, _)) = wire::read_packet(&mut reader).await {
            // Only a command begins a sequence on the client's side.
            if sequence == 0 && sender.send(()).await.is_err() {
                break;
            }
        }
        copy(&mut reader, &mut sink()).await
    });
}
