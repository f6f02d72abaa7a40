//! The program's two jobs, wired together: [`serve`] and [`check`].

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use tokio::net::TcpListener;
use tracing::{debug, info};

use crate::config::Node;
use crate::galera;
use crate::probe::Dialogue;
use crate::server;
use crate::verdict::Verdict;

/// Answers balancers on `listener` for ever.
pub async fn serve(listener: TcpListener, node: Node) {
    server::serve(listener, move || {
        let node = node.clone();
        async move { check(&node).await }
    })
    .await;
}

/// Opens the balancers' listener.
///
/// # Errors
/// What the operating system says.
pub async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address).await?;
    info!(address = %listener.local_addr()?, "listening");
    Ok(listener)
}

/// Asks the node once, within its deadlines.
pub async fn check(node: &Node) -> Verdict {
    let began = Instant::now();
    let mut dialogue = Dialogue::begin(&node.address, &node.credentials, node.deadlines);
    let (verdict, detail) = match dialogue.run().await {
        Ok(Ok(facts)) => (galera::judge(&facts, node.policy), format!("{facts:?}")),
        Ok(Err(failure)) => (Verdict::Refuse(failure.reason()), failure.to_string()),
        Err(stalled) => (Verdict::Refuse(stalled.reason()), stalled.to_string()),
    };
    debug!(target = %node.address, %verdict, %detail, elapsed = ?began.elapsed(), "dialogue");
    verdict
}
