//! Collects facts from the rows of the SHOW statements, as a probe run does.

use galera_probe::galera::Facts;
use galera_probe::mysql::Reply;

pub fn facts(replies: &[Reply]) -> Facts {
    let mut facts = Facts::default();
    for reply in replies {
        let Reply::Rows(rows) = reply else { continue };
        for row in rows {
            let [Some(name), value] = &row[..] else { continue };
            facts.note(name, value.as_deref());
        }
    }
    facts
}
