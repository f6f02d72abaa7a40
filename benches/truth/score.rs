//! How long a prober was wrong: pure arithmetic over what the oracle and the probers saw.
//!
//! The oracle writes a row through the node several times a second. The node's state is
//! known between two writes that agree, and unknown between two that do not. A prober's
//! verdict is in effect from its answer to its next answer, as for a balancer. Time counts
//! as false where the verdict in effect and the known state differ.

use std::ops::Range;

/// Milliseconds since the start of the run.
pub type Millis = u64;

/// A commit that takes longer proves nothing: the node may have woken during the write. As
/// long as the time between two writes.
pub const SLOW_COMMIT: Millis = 250;

/// Two writes further apart leave the state between them unknown: the machine was too busy
/// to write in time.
const LONGEST_GAP: Millis = 500;

/// An attempt of the oracle to write a row, on a connection of its own.
#[derive(Clone, Copy)]
pub struct Write {
    pub begun: Millis,
    pub ended: Millis,
    pub committed: bool,
}

impl Write {
    /// Returns whether the node served, or `None` if the write does not prove it.
    fn proves(&self) -> Option<bool> {
        (!self.is_slow()).then_some(self.committed)
    }

    /// Whether the row was committed, but late.
    pub fn is_slow(&self) -> bool {
        self.committed && self.ended - self.begun > SLOW_COMMIT
    }
}

/// The answer to one question to a prober.
#[derive(Clone, Copy)]
pub struct Answer {
    pub asked: Millis,
    pub answered: Millis,
    pub serves: bool,
}

/// A time in which the node or a verdict was in one state.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    pub time: Range<Millis>,
    pub serves: bool,
}

/// Milliseconds in which a verdict was wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// A verdict to serve was in effect while writes failed.
    pub false_serve: Millis,
    /// A verdict to refuse was in effect while writes were committed.
    pub false_refuse: Millis,
}

/// The states of the node, from the writes in the order of their beginning.
pub fn truth(writes: &[Write]) -> Vec<Span> {
    let known = writes.windows(2).filter_map(|pair| {
        let [earlier, later] = pair else { return None };
        let serves = earlier.proves()?;
        let is_known = later.proves() == Some(serves) && later.begun - earlier.begun <= LONGEST_GAP;
        is_known.then_some(Span { time: earlier.begun..later.begun, serves })
    });
    joined(known)
}

/// The verdicts in effect, from the answers in their order. The last one is in effect until
/// the end of the run.
pub fn verdicts(answers: &[Answer], end: Millis) -> Vec<Span> {
    let next = answers.iter().skip(1).map(|answer| answer.answered).chain([end]);
    joined(
        answers
            .iter()
            .zip(next)
            .map(|(answer, next)| Span { time: answer.answered..next, serves: answer.serves }),
    )
}

/// The floor: the answers of a prober that knows the truth, answers at once, and is asked at
/// these times. Where the state is unknown, it keeps its last verdict.
pub fn perfect(truth: &[Span], asked: impl IntoIterator<Item = Millis>) -> Vec<Answer> {
    let last = |time| truth.iter().rev().find(|span| span.time.start <= time);
    asked
        .into_iter()
        .filter_map(|time| {
            let serves = last(time)?.serves;
            Some(Answer { asked: time, answered: time, serves })
        })
        .collect()
}

/// How long the verdicts differ from the truth in this window.
pub fn score(truth: &[Span], verdicts: &[Span], window: &Range<Millis>) -> Score {
    let mut score = Score::default();
    for wrong in wrong(truth, verdicts) {
        let time = overlap(&wrong.time, window).map_or(0, |time| time.end - time.start);
        match wrong.serves {
            true => score.false_serve += time,
            false => score.false_refuse += time,
        }
    }
    score
}

/// The parts of the verdicts that differ from the truth.
pub fn wrong(truth: &[Span], verdicts: &[Span]) -> Vec<Span> {
    let parts = verdicts.iter().flat_map(|verdict| {
        let opposite = truth.iter().filter(|state| state.serves != verdict.serves);
        opposite.filter_map(|state| {
            let time = overlap(&state.time, &verdict.time)?;
            Some(Span { time, serves: verdict.serves })
        })
    });
    parts.collect()
}

/// How long the spans of this state last in this window.
pub fn duration(spans: &[Span], serves: bool, window: &Range<Millis>) -> Millis {
    let spans = spans.iter().filter(|span| span.serves == serves);
    spans.filter_map(|span| overlap(&span.time, window)).map(|time| time.end - time.start).sum()
}

fn overlap(a: &Range<Millis>, b: &Range<Millis>) -> Option<Range<Millis>> {
    let both = a.start.max(b.start)..a.end.min(b.end);
    (!both.is_empty()).then_some(both)
}

/// Joins neighbours of the same state.
fn joined(spans: impl IntoIterator<Item = Span>) -> Vec<Span> {
    let mut all: Vec<Span> = Vec::new();
    for span in spans {
        match all.last_mut() {
            Some(last) if last.serves == span.serves && last.time.end == span.time.start => {
                last.time.end = span.time.end;
            }
            _ => all.push(span),
        }
    }
    all
}
