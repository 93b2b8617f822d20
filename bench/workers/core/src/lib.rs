//! What `shared/` costs in wasm, in the runtime that it is made for. Each address does one kind of work so many times
//! and answers when it is done: `/<work>?<count>`. The benchmark measures the process from outside.
//!
//! | work | what is done `count` times |
//! |---|---|
//! | `encode` | one revocation is encoded, in the feed's pages |
//! | `load` | the same, and the pages are decoded and merged into the view |
//! | `hmac` | bare HMAC-SHA-256 over the bytes that a token's MAC covers |
//! | `check` | cookie parsed, MAC verified, user looked up in the view |
//! | `gate` | the same with the gate's whole decision |
//! | `table` | one revocation is put into a table; says the bytes of its slots |
//! | `memory` | nothing: says the bytes of the wasm's memory, and the entries of the view |

use std::cell::RefCell;
use std::hint::black_box;

use edgekeep_shared::cookie::{choose, cookie_name};
use edgekeep_shared::feed::{Answer, Entry, Head, MAX_ENTRIES, PageToken};
use edgekeep_shared::gate::{Situation, decide};
use edgekeep_shared::ids::{KeyId, Nonce, SessionId, SiteId, UserId};
use edgekeep_shared::keyring::{KeyRing, RingKey, Secret};
use edgekeep_shared::policy::RoutePolicy;
use edgekeep_shared::position::Position;
use edgekeep_shared::revision::Revision;
use edgekeep_shared::token::{Claims, sign};
use edgekeep_shared::view::{Applied, RevisionTable, View};
use hmac::Mac as _;
use wasm_bindgen::prelude::*;
use web_sys::{Request, Response};

/// Edge time at which everything happens, and coordinator time, which is ahead of it.
const EDGE_MS: i64 = 1_000_000;
const COORDINATOR_MS: u64 = 1_800_000_000_000;
const HOUR_MS: u64 = 3_600_000;
/// Users who present their cookies in turn: more than any cache of one look-up holds.
const USERS: u64 = 4_096;
const KEY: KeyId = KeyId(1);

/// What the worker keeps between its addresses.
struct Bench {
    view: View,
    ring: KeyRing,
    site: SiteId,
    cookies: Vec<String>,
    /// What the MACs of the same tokens cover, without the MAC.
    payloads: Vec<Vec<u8>>,
}

thread_local! {
    static BENCH: RefCell<Option<Bench>> = const { RefCell::new(None) };
}

/// Spread over 63 bits, as real user ids are.
const fn user(index: u64) -> UserId {
    UserId((index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1)
}

fn fail(what: &str) -> JsValue {
    JsValue::from_str(what)
}

impl Bench {
    fn new() -> Result<Self, JsValue> {
        let key = RingKey::new(KEY, &Secret([9; 32]), false);
        let site = SiteId::of("main");
        let (mut cookies, mut payloads) = (Vec::new(), Vec::new());
        for index in 0..USERS {
            let mut session = [0; 16];
            session[..8].copy_from_slice(&user(index).0.to_be_bytes());
            let claims = Claims {
                site,
                // None of them is among the revoked, so that the gate lets them pass.
                user_id: user(index + (1 << 32)),
                revision: Revision::first_of_epoch(1),
                session_id: SessionId(session),
                authenticated_at_ms: COORDINATOR_MS - 1_000,
                renew_after_ms: COORDINATOR_MS + HOUR_MS,
                idle_expires_at_ms: COORDINATOR_MS + HOUR_MS,
                expires_at_ms: COORDINATOR_MS + 24 * HOUR_MS,
                name: "demo".into(),
                roles: vec!["admin".into()],
            };
            let token = sign(&claims, &key).map_err(|_| fail("claims"))?;
            let encoded = token.strip_prefix("1.").ok_or_else(|| fail("token"))?;
            let bytes = edgekeep_shared::codec::from_base64url(encoded).ok_or_else(|| fail("base64"))?;
            payloads.push(bytes[..bytes.len() - 32].to_vec());
            cookies.push(format!("theme=dark; {}={token}", cookie_name(claims.session_id)));
        }
        Ok(Self { view: View::default(), ring: KeyRing::new(1, vec![key]), site, cookies, payloads })
    }

    /// The feed's pages with `count` entries, each as bytes; `take` gets one after the other.
    fn pages(count: u64, mut take: impl FnMut(&[u8]) -> Result<(), JsValue>) -> Result<(), JsValue> {
        let to = Position::new(1_000, Vec::new()).ok_or_else(|| fail("position"))?;
        let mut at = 0;
        while at < count {
            let until = (at + MAX_ENTRIES as u64).min(count);
            let entries: Vec<Entry> = (at..until)
                .map(|index| Entry {
                    user_id: user(index),
                    revision: Revision(Revision::first_of_epoch(1).0 + 1),
                    needed_until_ms: COORDINATOR_MS + index % HOUR_MS,
                })
                .collect();
            let next_page =
                (until < count).then(|| PageToken { instance: 1, to: to.clone(), read_at_ms: 1, after: (1, until) });
            let head = Head {
                nonce: Nonce([1; 16]),
                epoch: 1,
                from: None,
                to: to.clone(),
                age_ms: 0,
                held_ms: 0,
                read_at_ms: COORDINATOR_MS,
                keys_version: 1,
                settings_version: 1,
                max_staleness_ms: 600_000,
                next_page,
            };
            take(&Answer { head, entries }.encode())?;
            at = until;
        }
        Ok(())
    }

    fn load(&mut self, count: u64) -> Result<(), JsValue> {
        self.view = View::default();
        let view = &mut self.view;
        Self::pages(count, |bytes| {
            let question = view.question(Nonce([1; 16]), 0);
            let sent = view.sent(EDGE_MS);
            let answer = Answer::decode(bytes).map_err(|_| fail("page"))?;
            match view.apply(&question, &answer, sent, EDGE_MS) {
                Applied::Complete | Applied::More => Ok(()),
                Applied::Dropped(_) => Err(fail("the view dropped a page")),
            }
        })
    }

    fn hmac(&self, count: usize) -> Result<(), JsValue> {
        let key = self.ring.get(KEY).ok_or_else(|| fail("key"))?;
        for payload in self.payloads.iter().cycle().take(count) {
            let mut mac = key.hmac();
            mac.update(b"edgekeep session token v1\0");
            mac.update(black_box(payload));
            black_box(mac.finalize());
        }
        Ok(())
    }

    fn check(&self, count: usize) -> Result<(), JsValue> {
        for header in self.cookies.iter().cycle().take(count) {
            let choice = choose(black_box(header), &self.ring, self.site);
            let edgekeep_shared::cookie::Chosen::Proof { token, .. } = &choice.chosen else {
                return Err(fail("a cookie was refused"));
            };
            black_box(self.view.revision_of(token.claims().user_id));
        }
        Ok(())
    }

    fn gate(&self, count: usize) -> Result<(), JsValue> {
        for header in self.cookies.iter().cycle().take(count) {
            let choice = choose(black_box(header), &self.ring, self.site);
            let decision = decide(&Situation {
                chosen: &choice.chosen,
                route: &RoutePolicy::SESSION,
                view: &self.view,
                keys_version: 1,
                now_ms: EDGE_MS + 10,
                verdict: None,
                asked: 0,
            });
            if !matches!(black_box(decision), edgekeep_shared::gate::Decision::Allow(_)) {
                return Err(fail("the gate did not let a good session pass"));
            }
        }
        Ok(())
    }
}

/// Bytes of a table's slots with so many users.
fn table_bytes(count: u64) -> Result<usize, JsValue> {
    let mut table = RevisionTable::default();
    for index in 0..count {
        let needed_until_ms = COORDINATOR_MS + index % HOUR_MS;
        table
            .raise(user(index), Revision::first_of_epoch(1), needed_until_ms)
            .map_err(|_| fail("the table is full"))?;
    }
    Ok(table.slot_bytes())
}

fn memory_bytes() -> usize {
    core::arch::wasm32::memory_size::<0>() * 65_536
}

/// Does the work of one address.
///
/// # Errors
/// If the work does not end as it should.
#[wasm_bindgen]
pub fn handle(request: Request, _env: JsValue, _context: JsValue) -> Result<Response, JsValue> {
    let url = request.url();
    let (path, count) = url.split_once('?').unwrap_or((&url, "0"));
    let count: u64 = count.parse().map_err(|_| fail("count"))?;
    let work = path.rsplit('/').next().unwrap_or_default();
    let text = BENCH.with(|bench| -> Result<String, JsValue> {
        let mut bench = bench.try_borrow_mut().map_err(|_| fail("busy"))?;
        if bench.is_none() {
            *bench = Some(Bench::new()?);
        }
        let bench = bench.as_mut().ok_or_else(|| fail("empty"))?;
        match work {
            "encode" => Bench::pages(count, |bytes| {
                black_box(bytes);
                Ok(())
            })?,
            "load" => bench.load(count)?,
            "table" => return Ok(format!("{}\n", table_bytes(count)?)),
            "hmac" => bench.hmac(count as usize)?,
            "check" => bench.check(count as usize)?,
            "gate" => bench.gate(count as usize)?,
            _ => {}
        }
        Ok(format!("{} {}\n", memory_bytes(), bench.view.len()))
    })?;
    Response::new_with_opt_str(Some(&text))
}
