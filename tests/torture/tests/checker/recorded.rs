//! A history is read as it was written.

use edgekeep_torture::history::{History, Isolated, Line, Lost};

use crate::system::simulate;

fn written(history: &History) -> Vec<u8> {
    let mut lines = vec![Line::Rules(history.rules)];
    lines.extend(history.sessions.iter().cloned().map(Line::Session));
    lines.extend(history.operations.iter().copied().map(Line::Operation));
    lines.extend(history.calm.iter().copied().map(Line::Calm));
    lines.extend(history.isolated.iter().copied().map(Line::Isolated));
    lines.extend(history.lost.map(Line::Lost));
    let mut bytes = Vec::new();
    lines.iter().for_each(|line| line.write(&mut bytes).unwrap());
    bytes
}

#[test]
fn a_history_is_read_as_it_was_written() {
    let (mut history, _) = simulate(3, None);
    history.isolated.push(Isolated { edge: 1, from_us: 7, until_us: 8 });
    history.lost = Some(Lost { from_us: 1, until_us: 2 });
    assert_eq!(History::read(&written(&history)[..]).unwrap(), history);
}

#[test]
fn a_history_that_was_cut_off_is_refused() {
    let bytes = written(&simulate(3, None).0);
    assert!(History::read(&bytes[..bytes.len() - 10]).is_err());
    assert!(History::read(&b""[..]).is_err());
}
