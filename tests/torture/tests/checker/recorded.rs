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
    assert!(history.operations.iter().any(|op| op.cleared) && history.operations.iter().any(|op| !op.cleared));
    history.lost = Some(Lost { from_us: 1, until_us: 2 });
    assert_eq!(History::read(&written(&history)[..]).unwrap(), history);
}

#[test]
fn a_history_that_was_cut_off_is_refused() {
    let bytes = written(&simulate(3, None).0);
    assert!(History::read(&bytes[..bytes.len() - 10]).is_err());
    assert!(History::read(&b""[..]).is_err());
}

/// As runs wrote it before answers were asked what they did to the cookie.
const BEFORE: &str = r#"{"rules":{"bound_us":2000000,"guess_limit":5,"lockout_base_us":2000000,"owner_deadline_us":3000000,"late_us":30000000,"idle_us":20000000,"absolute_us":45000000}}
{"session":"00000000000000000000000000000001"}
{"operation":{"id":0,"user":1,"client":2,"edge":0,"sent_us":10,"returned_us":20,"action":{"Logout":{"session":0}},"outcome":"Done"}}
"#;

#[test]
fn a_history_that_was_written_before_is_read() {
    let history = History::read(BEFORE.as_bytes()).unwrap();
    assert_eq!((history.operations.len(), history.operations[0].cleared), (1, false));
    assert_eq!(written(&history), BEFORE.as_bytes());
}
