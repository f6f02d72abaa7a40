//! Converts the replies to the statements into facts.

use super::Failure;
use crate::galera::{self, Facts};
use crate::mysql::Reply;

/// Reads the facts from the replies to [`galera::STATEMENTS`].
pub(super) fn facts(replies: Vec<Reply>) -> Result<Facts, Failure> {
    let Ok([set, status, variables]) = <[Reply; 3]>::try_from(replies) else {
        return Err(Failure::UnexpectedReply);
    };
    match set {
        Reply::Ok => {}
        Reply::Err(error) if error.code == galera::UNKNOWN_VARIABLE => {}
        Reply::Err(error) => return Err(Failure::Statement(error)),
        Reply::Rows(_) => return Err(Failure::UnexpectedReply),
    }
    facts_from_rows([status, variables])
}

/// Reads the facts from the replies to [`galera::repeated_statements`].
pub(super) fn repeated_facts(replies: Vec<Reply>) -> Result<Facts, Failure> {
    let replies = <[Reply; 2]>::try_from(replies).map_err(|_| Failure::UnexpectedReply)?;
    facts_from_rows(replies)
}

/// Reads facts from rows that alternate names and values.
fn facts_from_rows(replies: [Reply; 2]) -> Result<Facts, Failure> {
    let mut facts = Facts::default();
    for reply in replies {
        let rows = match reply {
            Reply::Rows(rows) => rows,
            Reply::Err(error) => return Err(Failure::Statement(error)),
            Reply::Ok => return Err(Failure::UnexpectedReply),
        };
        for pair in rows.iter().flat_map(|row| row.chunks(2)) {
            let [Some(name), value] = pair else { return Err(Failure::UnexpectedReply) };
            facts.note(name, value.as_deref());
        }
    }
    Ok(facts)
}
