//! The statements of a probe run, one after the other, and what their replies show.

use std::mem;
use std::sync::Arc;

use super::{Failure, Step};
use crate::galera::{
    self, CANNOT_PROVE, CAUSALITY_CHECK, Facts, KnownVariables, Policy, STATEMENTS,
    UNKNOWN_VARIABLE,
};
use crate::health::{Role, Verdict};
use crate::mysql::Reply;

/// What a probe run is to find out, beyond the facts.
#[derive(Clone, Debug, Default)]
pub struct Questions {
    /// The variables that the node had when it was last probed.
    pub known: Option<Arc<KnownVariables>>,
    /// Ask a node that is fit by this policy for a causality check.
    pub causality: Option<Policy>,
}

/// What a node answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What it reported about itself.
    pub facts: Facts,
    /// Whether it proved that it is in contact with its group.
    pub causality: Causality,
}

/// The result of a causality check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Causality {
    /// The check was not asked for, or the node is not fit in any case.
    NotAsked,
    /// The node is in contact with its group.
    Proven,
    /// The node could not prove it.
    Unproven,
    /// The server has no such check.
    Unavailable,
}

/// Which statement is next, and the facts so far.
pub(super) struct Inquiry {
    questions: Questions,
    statement: Statement,
    facts: Facts,
    /// Whether the causality check was left on for the session.
    waits: bool,
}

/// A statement of a probe run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Statement {
    Set,
    Status,
    /// The SELECT of the known variables.
    Select,
    Variables,
    /// The first statement of [`CAUSALITY_CHECK`].
    SetWait,
    /// The second one.
    Check,
}

impl Inquiry {
    /// Begins after a login.
    pub(super) fn begin(questions: Questions) -> Self {
        Self { questions, statement: Statement::Set, facts: Facts::default(), waits: false }
    }

    /// Begins on the connection of this inquiry. Its first SET still holds, unless a
    /// causality check came after it.
    pub(super) fn repeat(&self, questions: Questions) -> Self {
        let statement = if self.waits { Statement::Set } else { Statement::Status };
        Self { statement, ..Self::begin(questions) }
    }

    /// The statement to send.
    pub(super) fn statement(&self) -> &str {
        let [set, status, variables] = STATEMENTS;
        let [set_wait, check] = CAUSALITY_CHECK;
        match (self.statement, &self.questions.known) {
            (Statement::Set, _) => set,
            (Statement::Status, _) => status,
            (Statement::Select, Some(known)) => known.statement(),
            (Statement::Select, None) | (Statement::Variables, _) => variables,
            (Statement::SetWait, _) => set_wait,
            (Statement::Check, _) => check,
        }
    }

    /// The step that the statement belongs to.
    pub(super) fn step(&self) -> Step {
        match self.statement {
            Statement::Set | Statement::Status | Statement::Select | Statement::Variables => {
                Step::Query
            }
            Statement::SetWait | Statement::Check => Step::Causality,
        }
    }

    /// The facts so far. In [`Step::Causality`] they are complete.
    pub(super) fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Takes the reply to [`statement`](Self::statement). Returns the answer if it is
    /// complete. `None`: send the next statement.
    pub(super) fn take(&mut self, reply: Reply) -> Result<Option<Answer>, Failure> {
        self.statement = match (self.statement, reply) {
            (Statement::Set, Reply::Ok) => Statement::Status,
            (Statement::Set, Reply::Err(error)) if error.code == UNKNOWN_VARIABLE => {
                Statement::Status
            }
            (Statement::Set, Reply::Err(error)) => return Err(Failure::Statement(error)),
            (Statement::Set, Reply::Rows(_)) => return Err(Failure::UnexpectedReply),
            (Statement::Status, reply) => {
                note_rows(&mut self.facts, reply)?;
                match self.questions.known {
                    Some(_) => Statement::Select,
                    None => Statement::Variables,
                }
            }
            (Statement::Select, reply) => match self.selected(reply) {
                Some(facts) => {
                    self.facts = facts;
                    return Ok(self.facts_are_complete());
                }
                None => Statement::Variables,
            },
            (Statement::Variables, reply) => {
                note_rows(&mut self.facts, reply)?;
                return Ok(self.facts_are_complete());
            }
            (Statement::SetWait, Reply::Ok) => {
                self.waits = true;
                Statement::Check
            }
            (Statement::SetWait, _) => return Ok(Some(self.answer(Causality::Unavailable))),
            (Statement::Check, Reply::Rows(_)) => return Ok(Some(self.answer(Causality::Proven))),
            (Statement::Check, Reply::Err(error)) if error.code == CANNOT_PROVE => {
                return Ok(Some(self.answer(Causality::Unproven)));
            }
            (Statement::Check, _) => return Ok(Some(self.answer(Causality::Unavailable))),
        };
        Ok(None)
    }

    /// Begins the causality check if it is asked for and the facts are fit. Otherwise returns
    /// the answer.
    fn facts_are_complete(&mut self) -> Option<Answer> {
        let Some(policy) = self.questions.causality else {
            return Some(self.answer(Causality::NotAsked));
        };
        // What is refused to readers is refused to every role.
        if galera::judge(&self.facts, policy, Role::Reader) != Verdict::Serve {
            return Some(self.answer(Causality::NotAsked));
        }
        if !galera::is_node(&self.facts) {
            return Some(self.answer(Causality::Unavailable));
        }
        self.statement = Statement::SetWait;
        None
    }

    fn answer(&mut self, causality: Causality) -> Answer {
        Answer { facts: mem::take(&mut self.facts), causality }
    }

    /// The facts with the reply to the SELECT. `None` if the server is not the one that had
    /// the known variables, or may not be: only SHOW tells which variables it has.
    fn selected(&self, reply: Reply) -> Option<Facts> {
        let mut facts = self.facts.clone();
        note_rows(&mut facts, reply).ok()?;
        self.questions.known.as_ref()?.is_answered_by(&facts).then_some(facts)
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
