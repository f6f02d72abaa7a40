//! The statements of a probe run, one after the other, and the facts in their replies.

use std::sync::Arc;

use super::Failure;
use crate::galera::{Facts, KnownVariables, STATEMENTS, UNKNOWN_VARIABLE};
use crate::mysql::Reply;

/// Which statement is next, and the facts so far.
pub(super) struct Inquiry {
    /// The variables that the server had when it was last probed.
    known: Option<Arc<KnownVariables>>,
    statement: Statement,
    facts: Facts,
}

/// A statement of a probe run.
#[derive(Clone, Copy)]
enum Statement {
    Set,
    Status,
    /// The SELECT of the known variables.
    Select,
    Variables,
}

impl Inquiry {
    /// Begins after a login.
    pub(super) fn begin(known: Option<Arc<KnownVariables>>) -> Self {
        Self { known, statement: Statement::Set, facts: Facts::default() }
    }

    /// Begins on a connection that has been used before: its SET still holds.
    pub(super) fn repeat(known: Option<Arc<KnownVariables>>) -> Self {
        Self { statement: Statement::Status, ..Self::begin(known) }
    }

    /// The statement to send.
    pub(super) fn statement(&self) -> &str {
        let [set, status, variables] = STATEMENTS;
        match (self.statement, &self.known) {
            (Statement::Set, _) => set,
            (Statement::Status, _) => status,
            (Statement::Select, Some(known)) => known.statement(),
            (Statement::Select, None) | (Statement::Variables, _) => variables,
        }
    }

    /// Takes the reply to [`statement`](Self::statement). Returns the facts if they are
    /// complete. `None`: send the next statement.
    pub(super) fn take(&mut self, reply: Reply) -> Result<Option<Facts>, Failure> {
        self.statement = match (self.statement, reply) {
            (Statement::Set, Reply::Ok) => Statement::Status,
            (Statement::Set, Reply::Err(error)) if error.code == UNKNOWN_VARIABLE => {
                Statement::Status
            }
            (Statement::Set, Reply::Err(error)) => return Err(Failure::Statement(error)),
            (Statement::Set, Reply::Rows(_)) => return Err(Failure::UnexpectedReply),
            (Statement::Status, reply) => {
                note_rows(&mut self.facts, reply)?;
                if self.known.is_some() { Statement::Select } else { Statement::Variables }
            }
            (Statement::Select, reply) => match self.selected(reply) {
                Some(facts) => return Ok(Some(facts)),
                None => Statement::Variables,
            },
            (Statement::Variables, reply) => {
                note_rows(&mut self.facts, reply)?;
                return Ok(Some(std::mem::take(&mut self.facts)));
            }
        };
        Ok(None)
    }

    /// The facts with the reply to the SELECT. `None` if the server is not the one that had
    /// the known variables, or may not be: only SHOW tells which variables it has.
    fn selected(&self, reply: Reply) -> Option<Facts> {
        let mut facts = self.facts.clone();
        note_rows(&mut facts, reply).ok()?;
        self.known.as_ref()?.is_answered_by(&facts).then_some(facts)
    }
}

/// Adds rows that alternate names and values.
fn note_rows(facts: &mut Facts, reply: Reply) -> Result<(), Failure> {
    let rows = match reply {
        Reply::Rows(rows) => rows,
        Reply::Err(error) => return Err(Failure::Statement(error)),
        Reply::Ok => return Err(Failure::UnexpectedReply),
    };
    for pair in rows.iter().flat_map(|row| row.chunks(2)) {
        let [Some(name), value] = pair else { return Err(Failure::UnexpectedReply) };
        facts.note(name, value.as_deref());
    }
    Ok(())
}
