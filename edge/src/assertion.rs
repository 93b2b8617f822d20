//! The signed assertion for the origin: a JWT (RFC 7519) in compact form (RFC 7515), HS256 and nothing else.
//!
//! Made by hand because it is one fixed header, one fixed set of claims and one HMAC that this crate
//! has already: the JWT crates that build for wasm bring other algorithms, a clock or a second copy of
//! `hmac`. Only signing happens here; the origin verifies with a library of its own.
//!
//! Times are coordinator time in seconds, rounded so that the assertion never lives longer than said.

use edgekeep_shared::codec::to_base64url;
use edgekeep_shared::keyring::Secret;
use hmac::Mac;
use serde::Serialize;

/// How long an assertion lives.
pub const LIFE_S: u64 = 30;
/// How long one is used again for further requests with the same proof: the rest of its life is for the way to the origin.
pub const REUSE_S: u64 = 10;
/// `{"alg":"HS256","typ":"JWT"}`
const HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";

/// What an assertion says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Assertion<'a> {
    /// Always `edgekeep`.
    pub iss: &'static str,
    /// The site's name.
    pub aud: &'a str,
    /// The user's id, 16 hexadecimal digits.
    pub sub: &'a str,
    /// The user's name.
    pub name: &'a str,
    /// The user's roles.
    pub roles: &'a [String],
    /// The session's id, 32 hexadecimal digits.
    pub sid: &'a str,
    /// When the password was checked.
    pub auth_time: u64,
    /// When it was made.
    pub iat: u64,
    /// From when it is valid.
    pub nbf: u64,
    /// Until when it is valid.
    pub exp: u64,
}

/// Signs an assertion.
#[must_use]
pub fn sign(assertion: &Assertion<'_>, key: &Secret) -> String {
    // The claims always serialise; were they ever not to, the empty object below is refused by every origin.
    let claims = serde_json::to_vec(assertion).unwrap_or_else(|_| b"{}".to_vec());
    sign_parts(HEADER, &to_base64url(&claims), key.hmac())
}

fn sign_parts(header: &str, claims: &str, mut hmac: edgekeep_shared::keyring::HmacSha256) -> String {
    let mut token = String::with_capacity(header.len() + claims.len() + 45);
    token.push_str(header);
    token.push('.');
    token.push_str(claims);
    hmac.update(token.as_bytes());
    let mac = to_base64url(&hmac.finalize().into_bytes());
    token.push('.');
    token.push_str(&mac);
    token
}

/// Assertions made lately, by proof: the same request comes many times a second, and signing costs more than looking up.
/// Bounded; an entry serves for [`REUSE_S`] and only for exactly the text it was made from.
#[derive(Debug, Default)]
pub struct Recent {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    /// The proof and the roles that bind now.
    made_from: String,
    iat_s: u64,
    token: std::rc::Rc<str>,
}

/// The most assertions that are remembered.
const MAX_RECENT: usize = 256;

impl Recent {
    /// The assertion made from this lately, if there is one. `now_s` is coordinator time.
    #[must_use]
    pub fn get(&self, made_from: &str, now_s: u64) -> Option<std::rc::Rc<str>> {
        let entry = self.entries.iter().rev().find(|entry| entry.made_from == made_from)?;
        let age_s = now_s.checked_sub(entry.iat_s)?;
        (age_s < REUSE_S).then(|| entry.token.clone())
    }

    /// Remembers an assertion.
    pub fn put(&mut self, made_from: String, iat_s: u64, token: std::rc::Rc<str>) {
        self.entries.retain(|entry| entry.made_from != made_from && iat_s.saturating_sub(entry.iat_s) < REUSE_S);
        if self.entries.len() == MAX_RECENT {
            self.entries.remove(0);
        }
        self.entries.push(Entry { made_from, iat_s, token });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use edgekeep_shared::codec::from_base64url;

    /// RFC 7515, appendix A.1: header and claims with their line breaks, the key, and the signature.
    #[test]
    fn signs_as_rfc_7515_does() {
        let key =
            from_base64url("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
                .expect("a key");
        let header = to_base64url(b"{\"typ\":\"JWT\",\r\n \"alg\":\"HS256\"}");
        let claims =
            to_base64url(b"{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}");
        assert_eq!(
            sign_parts(&header, &claims, edgekeep_shared::keyring::keyed(&key)),
            "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9\
             .eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ\
             .dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
        );
    }

    #[test]
    fn the_header_is_what_it_says() {
        assert_eq!(from_base64url(HEADER).expect("base64url"), br#"{"alg":"HS256","typ":"JWT"}"#);
    }

    #[test]
    fn claims_have_their_registered_names() {
        let roles = ["admin".to_owned()];
        let assertion = Assertion {
            iss: "edgekeep",
            aud: "main",
            sub: "00000000000000ab",
            name: "ann",
            roles: &roles,
            sid: "ff",
            auth_time: 1,
            iat: 2,
            nbf: 2,
            exp: 32,
        };
        let token = sign(&assertion, &Secret([7; 32]));
        let claims = from_base64url(token.split('.').nth(1).expect("three parts")).expect("base64url");
        assert_eq!(
            String::from_utf8(claims).expect("text"),
            r#"{"iss":"edgekeep","aud":"main","sub":"00000000000000ab","name":"ann","roles":["admin"],"sid":"ff","auth_time":1,"iat":2,"nbf":2,"exp":32}"#
        );
    }

    #[test]
    fn reuse_is_bounded_in_time_and_number() {
        let mut recent = Recent::default();
        recent.put("proof".to_owned(), 100, "token".into());
        assert_eq!(recent.get("proof", 109).as_deref(), Some("token"));
        assert_eq!(recent.get("proof", 110), None);
        assert_eq!(recent.get("proof", 99), None, "made in the future of a clock that was set back");
        assert_eq!(recent.get("other", 100), None);
        for n in 0..1_000 {
            recent.put(format!("proof {n}"), 100, "token".into());
        }
        assert_eq!(recent.entries.len(), MAX_RECENT);
    }
}
