//! Collects facts from rows of names and values, as a probe run does.

use galera_probe::galera::Facts;
use galera_probe::mysql::Reply;

pub fn facts(replies: &[Reply]) -> Facts {
    let mut facts = Facts::default();
    for reply in replies {
        let Reply::Rows(rows) = reply else { continue };
        for pair in rows.iter().flat_map(|row| row.chunks(2)) {
            let [Some(name), value] = pair else { continue };
            facts.note(name, value.as_deref());
        }
    }
    facts
}
