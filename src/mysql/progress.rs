use super::reply::Reply;

/// What a session waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The server's first packet, before anything of ours is sent.
    Greeting,
    /// The answer to the login or to one of its further turns.
    Login,
    /// The replies to the statements.
    Query,
}

/// Where a session stands after it was fed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More bytes of the server are needed.
    Wait(Stage),
    /// The output ends with SSLRequest. Once it is written, TLS begins on the same
    /// stream; then [`Session::tls_started`] is due.
    StartTls,
    /// Every statement has its reply, in order, and COM_QUIT is in the output.
    /// The connection can be closed once the output is written. A session that is
    /// [kept](Session::kept) has sent no COM_QUIT, and [`Session::query`] may follow.
    Done(Vec<Reply>),
}
