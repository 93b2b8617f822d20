//! The `Cookie` header: which cookie counts, which are cleared, and what the origin gets to see.

use std::collections::BTreeSet;

use edgekeep_edge::decoders::{pre_session, sets_ours};
use edgekeep_shared::codec::from_base64url;
use edgekeep_shared::cookie::{
    self, COOKIE_PREFIX, Chosen, MAX_LOOKED_AT, all_presented, choose, clear_cookie, looks_like_ours, presented, strip,
};
use edgekeep_shared::form_key::PRE_SESSION_COOKIE;

use crate::keys::{genuine, ring, site};

pub fn seeds() -> Vec<Vec<u8>> {
    let genuine = genuine();
    let pair = |at: usize| format!("{}={}", genuine[at].name, genuine[at].value);
    let mut seeds: Vec<String> = vec![
        String::new(),
        "a=1; b=2".into(),
        pair(0),
        format!("a=1; {}; theme=dark", pair(1)),
        format!("{}; {}", pair(0), pair(1)),
        format!("{}; {}", pair(2), pair(2)),
        format!("a=1, {}; b", pair(3)),
        format!("={}; {COOKIE_PREFIX}=x; __host-EDGEKEEP-1=y", pair(0)),
        format!("{PRE_SESSION_COOKIE}=AAECAwQFBgcICQoLDA0ODw; a=1"),
    ];
    seeds.push((0..12).map(|n| format!("{COOKIE_PREFIX}{n:08x}=x; ")).collect::<String>() + &pair(0));
    seeds.into_iter().map(String::into_bytes).collect()
}

pub fn header(bytes: &[u8]) -> bool {
    let header = String::from_utf8_lossy(bytes);
    let choice = choose(&header, &ring(), site());
    let all = all_presented(&header);
    let last = presented(&header);
    assert_eq!(last.as_slice(), &all[all.len().saturating_sub(MAX_LOOKED_AT)..], "the last ones are looked at");

    if let Chosen::Proof { value, token } = &choice.chosen {
        let name = cookie::cookie_name(token.claims().session_id);
        assert!(genuine().iter().any(|given| given.name == name && given.value == *value), "never given out: {value}");
        let of_name: Vec<_> = last.iter().filter(|presented| presented.name == name).collect();
        assert!(of_name.len() == 1 && of_name[0].value == *value, "once, and under its own name");
        assert!(!choice.clear.contains(&name), "the one that counts is not cleared");
    }
    assert_eq!(matches!(choice.chosen, Chosen::Nothing), all.is_empty(), "none is not invalid");
    let cleared: BTreeSet<&String> = choice.clear.iter().collect();
    assert_eq!(cleared.len(), choice.clear.len(), "each once");
    for name in cleared {
        assert!(last.iter().any(|presented| presented.name == name), "only what came is cleared");
        assert!(!name.contains([';', '=']), "a name stays a name in Set-Cookie");
        assert!(sets_ours(&clear_cookie(name)), "and the origin could not have set it");
    }

    let kept = strip(&header);
    if let Some(kept) = &kept {
        assert!(
            !kept.to_ascii_lowercase().contains(&COOKIE_PREFIX.to_ascii_lowercase()),
            "the origin sees none of ours"
        );
        assert_eq!(strip(kept).as_ref(), Some(kept), "nothing is left to strip");
        let pairs: BTreeSet<&str> = header.split(';').map(|pair| pair.trim_matches([' ', '\t'])).collect();
        assert!(kept.split("; ").all(|pair| pairs.contains(pair)), "nothing is made up");
    }
    for pair in header.split(';').map(|pair| pair.trim_matches([' ', '\t'])).filter(|pair| !pair.is_empty()) {
        let ours = pair.to_ascii_lowercase().contains(&COOKIE_PREFIX.to_ascii_lowercase());
        let stays = kept.as_deref().is_some_and(|kept| kept.split("; ").any(|other| other == pair));
        assert!(ours || stays || pair.contains("; "), "other people's cookies arrive: {pair}");
        let name = pair.split('=').next().unwrap_or_default();
        assert!(ours || !looks_like_ours(name), "what looks like ours is stripped");
    }
    if let Some(value) = pre_session(&header) {
        assert_eq!(from_base64url(value).map(|bytes| bytes.len()), Some(16));
        assert!(header.contains(&format!("{PRE_SESSION_COOKIE}={value}")));
    }
    matches!(choice.chosen, Chosen::Proof { .. })
}
