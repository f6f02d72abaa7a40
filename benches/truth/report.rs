//! The tables of a run, and its timelines second by second.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;

use crate::Done;
use crate::faults::Fault;
use crate::oracle::Oracle;
use crate::probers::{Prober, file_name};
use crate::score::{Answer, Millis, Score, Span, Write, duration, perfect, score, truth, verdicts};

pub struct Report {
    pub windows: Vec<Window>,
    pub writes: Vec<(Write, String)>,
    pub truth: Vec<Span>,
    /// The probers, after the floor.
    pub lanes: Vec<Lane>,
    pub end: Millis,
}

/// A fault, and the time that counts for it.
pub struct Window {
    pub fault: &'static Fault,
    /// From the beginning of the fault to its end.
    pub fault_time: Range<Millis>,
    /// From the beginning of the fault to that of the next one.
    pub time: Range<Millis>,
}

pub struct Lane {
    pub name: &'static str,
    pub answers: Vec<(Answer, String)>,
    pub verdicts: Vec<Span>,
}

impl Report {
    pub fn new(done: &[Done], oracle: &Oracle, probers: &[Prober], end: Millis) -> Self {
        let next = done.iter().skip(1).map(|done| done.time.start).chain([end]);
        let windows = done.iter().zip(next).map(|(done, next)| Window {
            fault: done.fault,
            fault_time: done.time.clone(),
            time: done.time.start..next,
        });
        let writes = oracle.writes();
        let truth = truth(&first(&writes));
        let mut lanes: Vec<_> =
            probers.iter().map(|prober| Lane::new(prober.name, prober.answers(), end)).collect();
        if let Some(lane) = lanes.first() {
            let asked = lane.answers.iter().map(|(answer, _)| answer.asked);
            let answers = perfect(&truth, asked).into_iter().map(|answer| (answer, String::new()));
            lanes.insert(0, Lane::new("a perfect prober", answers.collect(), end));
        }
        Self { windows: windows.collect(), writes, truth, lanes, end }
    }

    pub fn tables(&self) -> String {
        format!("{}\n{}\n{}", self.summary(), self.totals(), self.by_fault())
    }

    fn summary(&self) -> String {
        let sum = |time: fn(&Self, &Range<Millis>) -> Millis| {
            seconds(self.windows.iter().map(|window| time(self, &window.time)).sum())
        };
        format!(
            "{} faults in {} s. Writes succeeded for {} s and failed for {} s; {} s are not \
             counted.\n",
            self.windows.len(),
            sum(|_, time| time.end - time.start),
            sum(|this, time| duration(&this.truth, true, time)),
            sum(|this, time| duration(&this.truth, false, time)),
            sum(Self::unknown),
        )
    }

    /// The table of all faults together.
    fn totals(&self) -> String {
        let mut table = String::from(
            "| seconds | false serve | false refuse | without policy | slowest answer |\n\
             |---|---|---|---|---|\n",
        );
        for lane in &self.lanes {
            let scores = self.windows.iter().map(|window| self.score(lane, &window.time));
            let (false_serve, false_refuse) = scores
                .fold((0, 0), |sum, score| (sum.0 + score.false_serve, sum.1 + score.false_refuse));
            let policies = self.windows.iter().filter(|window| window.fault.is_policy);
            let policy: Millis =
                policies.map(|window| self.score(lane, &window.fault_time).false_refuse).sum();
            let _ = writeln!(
                table,
                "| {} | {} | {} | {} | {} |",
                lane.name,
                seconds(false_serve),
                seconds(false_refuse),
                seconds(false_refuse - policy),
                seconds(lane.slowest()),
            );
        }
        table
    }

    /// The table with a row for each fault.
    fn by_fault(&self) -> String {
        let names: Vec<_> = self.lanes.iter().map(|lane| lane.name).collect();
        let mut table = format!(
            "| false serve / false refuse, seconds | fault | writes failed | not counted | {} |\n\
             |---|---|---|---{}|\n",
            names.join(" | "),
            "|---".repeat(names.len()),
        );
        for window in &self.windows {
            let cells: Vec<_> = self
                .lanes
                .iter()
                .map(|lane| {
                    let score = self.score(lane, &window.time);
                    format!("{} / {}", seconds(score.false_serve), seconds(score.false_refuse))
                })
                .collect();
            let policy = if window.fault.is_policy { " (policy)" } else { "" };
            let _ = writeln!(
                table,
                "| {}{policy} | {} | {} | {} | {} |",
                window.fault.name,
                seconds(window.fault_time.end - window.fault_time.start),
                seconds(duration(&self.truth, false, &window.time)),
                seconds(self.unknown(&window.time)),
                cells.join(" | "),
            );
        }
        table
    }

    fn score(&self, lane: &Lane, window: &Range<Millis>) -> Score {
        score(&self.truth, &lane.verdicts, window)
    }

    fn unknown(&self, window: &Range<Millis>) -> Millis {
        let known = [true, false].map(|serves| duration(&self.truth, serves, window));
        window.end - window.start - known.iter().sum::<Millis>()
    }

    /// Writes a file for each fault, with a line for each second.
    pub fn write_timelines(&self, directory: &Path) -> io::Result<()> {
        for (number, window) in (1..).zip(&self.windows) {
            let name = format!("{number:02}-{}.txt", file_name(window.fault.name));
            fs::write(directory.join(name), self.timeline(window))?;
        }
        Ok(())
    }

    fn timeline(&self, window: &Window) -> String {
        /// Seconds shown before the fault.
        const BEFORE: Millis = 3000;
        let begun = window.time.start;
        let mut text = format!(
            "{}: begun {} s after the start of the run, ended {} s later.\n\
             Writes: + committed, ~ committed late, - failed. A second without an answer is empty.\n\n",
            window.fault.name,
            seconds(begun),
            seconds(window.fault_time.end - begun),
        );
        // The floor has no answers of its own.
        let lanes: Vec<_> = self.lanes.iter().skip(1).collect();
        let mut rows = vec![vec!["second".to_owned(), "writes".to_owned(), "error".to_owned()]];
        rows[0].extend(lanes.iter().map(|lane| lane.name.replace("galera-probe --", "--")));
        let first_second = begun - begun.min(BEFORE);
        for from in (first_second..window.time.end).step_by(1000) {
            let second = from..from + 1000;
            let relative = (from as f64 - begun as f64) / 1000.0;
            let mut row = vec![format!("{relative:.0}")];
            row.extend(self.writes_in(&second));
            row.extend(lanes.iter().map(|lane| lane.words_in(&second)));
            rows.push(row);
        }
        align(&rows, &mut text);
        text
    }

    /// A sign for each write begun in this second, and the last error.
    fn writes_in(&self, second: &Range<Millis>) -> [String; 2] {
        let writes = self.writes.iter().filter(|(write, _)| second.contains(&write.begun));
        let mut signs = String::new();
        let mut error = "";
        for (write, word) in writes {
            signs.push(match write.committed {
                true if write.is_slow() => '~',
                true => '+',
                false => '-',
            });
            error = if write.committed { error } else { word };
        }
        [signs, error.to_owned()]
    }
}

impl Lane {
    fn new(name: &'static str, answers: Vec<(Answer, String)>, end: Millis) -> Self {
        let verdicts = verdicts(&first(&answers), end);
        Self { name, answers, verdicts }
    }

    fn slowest(&self) -> Millis {
        let times = self.answers.iter().map(|(answer, _)| answer.answered - answer.asked);
        times.max().unwrap_or_default()
    }

    /// The different words of the answers in this second, cut so that the columns stay narrow.
    fn words_in(&self, second: &Range<Millis>) -> String {
        const LONGEST: usize = 40;
        let answers = self.answers.iter().filter(|(answer, _)| second.contains(&answer.answered));
        let words = answers.map(|(_, word)| word.chars().take(LONGEST).collect::<String>());
        let mut words: Vec<_> = words.collect();
        words.dedup();
        words.join(", ")
    }
}

fn first<T: Copy>(seen: &[(T, String)]) -> Vec<T> {
    seen.iter().map(|(seen, _)| *seen).collect()
}

fn seconds(millis: Millis) -> String {
    format!("{:.1}", millis as f64 / 1000.0)
}

/// Writes the rows in columns.
fn align(rows: &[Vec<String>], text: &mut String) {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
}
