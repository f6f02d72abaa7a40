//! Tests the arithmetic of the truth bench (`benches/run truth`): which time counts as a
//! false verdict.

#[path = "../benches/truth/score.rs"]
mod score;

use std::ops::Range;

use score::{Answer, Millis, Score, Span, Write, duration, perfect, truth, verdicts, wrong};

const SERVES: bool = true;
const FAILS: bool = false;

/// Writes of 10 ms: when they began, and whether they were committed.
fn quick(writes: &[(Millis, bool)]) -> Vec<Write> {
    writes.iter().map(|&(begun, committed)| write(begun, begun + 10, committed)).collect()
}

fn write(begun: Millis, ended: Millis, committed: bool) -> Write {
    Write { begun, ended, committed }
}

/// Answers: asked, answered, and whether they were to serve.
fn answers(answers: &[(Millis, Millis, bool)]) -> Vec<Answer> {
    let all = answers.iter();
    all.map(|&(asked, answered, serves)| Answer { asked, answered, serves }).collect()
}

fn span(time: Range<Millis>, serves: bool) -> Span {
    Span { time, serves }
}

#[test]
fn the_state_is_known_between_two_quick_writes_that_agree() {
    for (writes, known) in [
        (quick(&[]), vec![]),
        (quick(&[(0, SERVES)]), vec![]),
        (quick(&[(0, SERVES), (250, SERVES), (500, SERVES)]), vec![span(0..500, SERVES)]),
        (quick(&[(0, FAILS), (250, FAILS), (500, FAILS)]), vec![span(0..500, FAILS)]),
        (
            quick(&[(0, SERVES), (250, SERVES), (500, FAILS), (750, FAILS), (1000, SERVES)]),
            vec![span(0..250, SERVES), span(500..750, FAILS)],
        ),
    ] {
        assert_eq!(truth(&writes), known);
    }
}

#[test]
fn a_commit_of_more_than_250_ms_proves_nothing() {
    for (took, known) in [(250, vec![span(0..500, SERVES)]), (251, vec![]), (999, vec![])] {
        let writes =
            [write(0, 10, SERVES), write(250, 250 + took, SERVES), write(500, 510, SERVES)];
        assert_eq!(truth(&writes), known, "{took}");
    }
}

#[test]
fn a_write_that_fails_at_its_deadline_proves_that_the_node_does_not_serve() {
    let writes = [write(0, 1000, FAILS), write(250, 1250, FAILS)];
    assert_eq!(truth(&writes), [span(0..250, FAILS)]);
}

#[test]
fn a_gap_of_more_than_500_ms_between_writes_is_unknown() {
    for (gap, known) in [(500, vec![span(0..500, SERVES)]), (501, vec![])] {
        assert_eq!(truth(&quick(&[(0, SERVES), (gap, SERVES)])), known, "{gap}");
    }
}

#[test]
fn a_verdict_is_in_effect_from_its_answer_to_the_next_answer() {
    let answers = answers(&[(0, 5, SERVES), (1000, 1005, SERVES), (2000, 3000, FAILS)]);
    assert_eq!(verdicts(&answers, 4000), [span(5..3000, SERVES), span(3000..4000, FAILS)]);
}

#[test]
fn only_known_time_in_the_window_counts_as_false() {
    let truth = [span(0..1000, SERVES), span(1200..3000, FAILS), span(3500..9000, SERVES)];
    for (verdicts, window, false_serve, false_refuse) in [
        // Exact, and wrong only while the state is unknown.
        (vec![span(0..1100, SERVES), span(1100..3200, FAILS)], 0..9000, 0, 0),
        // Late in both directions.
        (vec![span(0..2000, SERVES), span(2000..4000, FAILS)], 0..9000, 800, 500),
        // Always the same.
        (vec![span(0..9000, SERVES)], 0..9000, 1800, 0),
        (vec![span(0..9000, FAILS)], 0..9000, 0, 6500),
        // No verdict yet.
        (vec![], 0..9000, 0, 0),
        // Only a part is in the window.
        (vec![span(0..9000, SERVES)], 2500..9000, 500, 0),
        (vec![span(0..9000, FAILS)], 0..3600, 0, 1100),
    ] {
        let expected = Score { false_serve, false_refuse };
        assert_eq!(score::score(&truth, &verdicts, &window), expected, "{verdicts:?} {window:?}");
    }
}

#[test]
fn a_wrong_part_has_the_state_of_the_verdict() {
    let truth = [span(0..1000, SERVES), span(1000..3000, FAILS)];
    let verdicts = [span(500..1500, SERVES), span(1500..2000, FAILS), span(2000..2500, SERVES)];
    let expected = [span(1000..1500, SERVES), span(2000..2500, SERVES)];
    assert_eq!(wrong(&truth, &verdicts), expected);
}

#[test]
fn windows_that_adjoin_add_up_to_the_whole() {
    let truth = [span(0..1000, SERVES), span(1200..3000, FAILS), span(3500..9000, SERVES)];
    let verdicts = [span(0..2000, SERVES), span(2000..4000, FAILS), span(4000..9000, SERVES)];
    let parts =
        [0..1500, 1500..3700, 3700..9000].map(|part| score::score(&truth, &verdicts, &part));
    let whole = score::score(&truth, &verdicts, &(0..9000));
    assert_eq!(parts.iter().map(|part| part.false_serve).sum::<Millis>(), whole.false_serve);
    assert_eq!(parts.iter().map(|part| part.false_refuse).sum::<Millis>(), whole.false_refuse);
}

#[test]
fn a_perfect_prober_is_wrong_only_until_it_is_asked_again() {
    let truth = [span(0..1000, SERVES), span(1200..3000, FAILS), span(3500..9000, SERVES)];
    let asked = [500, 1100, 2100, 3100, 4100];
    let verdicts = verdicts(&perfect(&truth, asked), 9000);
    assert_eq!(
        verdicts,
        [span(500..2100, SERVES), span(2100..4100, FAILS), span(4100..9000, SERVES)]
    );
    let expected = Score { false_serve: 900, false_refuse: 600 };
    assert_eq!(score::score(&truth, &verdicts, &(0..9000)), expected);
}

#[test]
fn a_perfect_prober_has_no_verdict_before_the_truth_is_known() {
    let truth = [span(1000..2000, SERVES)];
    let asked: Vec<_> = perfect(&truth, [500, 1500]).iter().map(|answer| answer.asked).collect();
    assert_eq!(asked, [1500]);
}

#[test]
fn the_duration_of_a_state_is_counted_within_the_window() {
    let truth = [span(0..1000, SERVES), span(1200..3000, FAILS), span(3500..9000, SERVES)];
    for (serves, window, expected) in [
        (SERVES, 0..9000, 6500),
        (FAILS, 0..9000, 1800),
        (FAILS, 2000..2500, 500),
        (FAILS, 0..1200, 0),
    ] {
        assert_eq!(duration(&truth, serves, &window), expected, "{serves} {window:?}");
    }
}
