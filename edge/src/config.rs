//! The worker's bindings, read once per isolate. Every error names the binding that it is about.
//!
//! | binding | what | without it |
//! |---|---|---|
//! | `COORDINATOR_URLS` | addresses of the coordinators, separated by commas | error |
//! | `RELAY_URLS` | addresses of relays, which are asked for the revocation feed only | coordinators are asked |
//! | `EDGE_CREDENTIAL` (secret) | what `edgekeep edge add` printed | error |
//! | `ASSERTION_KEY` (secret) | 32 bytes as base64url, shared with the origin | error where there is an origin |
//! | `ORIGIN` or `ORIGIN_URL` | service binding or address of the protected site | error for the gateway |
//! | `ORIGIN_TIMEOUT_S` | how long the site may take until its answer begins, 1 to 3600 s | 100 s |
//! | `PUBLIC_SCHEME` | `https` where TLS ends in front of this worker, so that it sees plain HTTP | as the request came |
//! | `POLICY` | route policy, JSON (see `shared::policy`) | every path needs a session |
//! | `AUTH_PREFIX` | where our own doors are | `/auth` |
//! | `CLIENT_ADDRESS_HEADER` | the one header that names the client's address, set by something we trust | no address is passed on |
//! | `SUBREQUEST_LIMIT` | what the platform allows one invocation, 50 to 10000 | 50 |
//! | `SITE` | name of the site, checked against the coordinator's | not checked |

use edgekeep_shared::codec::from_base64url;
use edgekeep_shared::credential::feed_credential;
use edgekeep_shared::follow::MIN_SUBREQUESTS;
use edgekeep_shared::keyring::Secret;
use edgekeep_shared::policy::Policy;

/// What Cloudflare itself allows an origin.
const DEFAULT_ORIGIN_TIMEOUT_S: u32 = 100;
/// The most subrequests of one invocation: what Cloudflare's paid plan allows unless it is told otherwise.
const MAX_SUBREQUESTS: u32 = 10_000;
/// The most coordinators that are tried, and the most relays.
const MAX_COORDINATORS: usize = 8;

/// A binding is missing or malformed. The text names it and never repeats its value: it may be a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(pub String);

fn error<T>(binding: &str, what: &str) -> Result<T, ConfigError> {
    Err(ConfigError(format!("binding {binding}: {what}")))
}

/// Where allowed requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginAddress {
    /// The service binding `ORIGIN`.
    Binding,
    /// Scheme and authority, without a path.
    Url(String),
}

/// The protected site.
#[derive(Debug)]
pub struct Origin {
    /// Where it is.
    pub address: OriginAddress,
    /// Signs assertions for it.
    pub assertion_key: Secret,
    /// How long it may take until its answer begins, in milliseconds.
    pub timeout_ms: u32,
}

/// What the isolate runs with.
#[derive(Debug)]
pub struct Config {
    /// Scheme and authority of each coordinator, without a path.
    pub coordinators: Vec<String>,
    /// The value of the `Authorization` header towards coordinators.
    pub authorization: Authorization,
    /// The relays that are asked for the feed before coordinators are; mostly none.
    pub relays: Vec<String>,
    /// The value of the `Authorization` header towards relays: it opens the feed and nothing else.
    pub relay_authorization: Option<Authorization>,
    /// The protected site; `None` where the worker only answers for others.
    pub origin: Option<Origin>,
    /// What paths ask for.
    pub policy: Policy,
    /// Browsers speak HTTPS to this site, whatever the worker sees.
    pub public_https: bool,
    /// Where our doors are: `/` and at least one segment, no trailing slash.
    pub prefix: String,
    /// The one trusted header with the client's address.
    pub client_address_header: Option<String>,
    /// What the platform allows one invocation: where it is more, polls need not be saved under many changes.
    pub subrequest_limit: u32,
    /// The site's name, if it is to be checked.
    pub site: Option<String>,
}

/// `Bearer <credential>`; never shown.
pub struct Authorization(pub String);

impl core::fmt::Debug for Authorization {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Authorization(..)")
    }
}

impl Config {
    /// Reads the configuration. `text` gives a text binding, `has_origin` says whether the service binding is there.
    ///
    /// # Errors
    /// The first binding that is missing or malformed.
    pub fn read(text: impl Fn(&str) -> Option<String>, has_origin: bool) -> Result<Self, ConfigError> {
        let text = |name: &str| text(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let relays = relays(text("RELAY_URLS"))?;
        let credential = text("EDGE_CREDENTIAL");
        Ok(Self {
            coordinators: coordinators(text("COORDINATOR_URLS"))?,
            relay_authorization: if relays.is_empty() {
                None
            } else {
                Some(relay_authorization(credential.as_deref())?)
            },
            relays,
            authorization: authorization(credential)?,
            origin: origin(has_origin, text("ORIGIN_URL"), text("ASSERTION_KEY"), text("ORIGIN_TIMEOUT_S"))?,
            policy: policy(text("POLICY"))?,
            public_https: public_https(text("PUBLIC_SCHEME"))?,
            prefix: prefix(text("AUTH_PREFIX"))?,
            client_address_header: header_name(text("CLIENT_ADDRESS_HEADER"))?,
            subrequest_limit: subrequest_limit(text("SUBREQUEST_LIMIT"))?,
            site: text("SITE"),
        })
    }
}

fn coordinators(urls: Option<String>) -> Result<Vec<String>, ConfigError> {
    const BINDING: &str = "COORDINATOR_URLS";
    let Some(urls) = urls else { return error(BINDING, "is missing; give one or more addresses, separated by commas") };
    let bases = base_urls(BINDING, &urls)?;
    if bases.is_empty() { error(BINDING, "names no coordinator") } else { Ok(bases) }
}

fn relays(urls: Option<String>) -> Result<Vec<String>, ConfigError> {
    urls.map_or_else(|| Ok(Vec::new()), |urls| base_urls("RELAY_URLS", &urls))
}

fn base_urls(binding: &str, urls: &str) -> Result<Vec<String>, ConfigError> {
    let mut bases = Vec::new();
    for url in urls.split(',').map(str::trim).filter(|url| !url.is_empty()) {
        match base_url(url) {
            Some(base) => bases.push(base),
            None => return error(binding, "has an entry that is not http(s)://host[:port]"),
        }
    }
    if bases.len() <= MAX_COORDINATORS { Ok(bases) } else { error(binding, "names more than 8 addresses") }
}

/// `scheme://authority`, if that is all there is (a trailing slash is fine, user names and paths are not).
fn base_url(url: &str) -> Option<String> {
    let url = url.strip_suffix('/').unwrap_or(url);
    let authority = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b':' | b'[' | b']' | b'_');
    (!authority.is_empty() && authority.bytes().all(plain)).then(|| url.to_owned())
}

fn authorization(credential: Option<String>) -> Result<Authorization, ConfigError> {
    const BINDING: &str = "EDGE_CREDENTIAL";
    match credential {
        None => error(BINDING, "is missing; `edgekeep edge add` makes one"),
        Some(text) if text.len() > 512 || !text.bytes().all(|c| c.is_ascii_graphic()) => {
            error(BINDING, "is not a credential as `edgekeep edge add` prints it")
        }
        Some(text) => Ok(Authorization(format!("Bearer {text}"))),
    }
}

/// What relays are shown is derived, so that none of them can sign in, check or fetch keys in this edge's name.
fn relay_authorization(credential: Option<&str>) -> Result<Authorization, ConfigError> {
    match credential.and_then(feed_credential) {
        Some(text) => Ok(Authorization(format!("Bearer {}", *text))),
        None => error("EDGE_CREDENTIAL", "is missing, or is not a credential as `edgekeep edge add` prints it"),
    }
}

fn origin(
    binding: bool,
    url: Option<String>,
    key: Option<String>,
    timeout_s: Option<String>,
) -> Result<Option<Origin>, ConfigError> {
    let address = match (binding, url) {
        (true, Some(_)) => return error("ORIGIN_URL", "and the service binding ORIGIN are both there; give one"),
        (true, None) => OriginAddress::Binding,
        (false, Some(url)) => match base_url(&url) {
            Some(base) => OriginAddress::Url(base),
            None => return error("ORIGIN_URL", "is not http(s)://host[:port]"),
        },
        (false, None) => return Ok(None),
    };
    const KEY: &str = "ASSERTION_KEY";
    let Some(key) = key else { return error(KEY, "is missing; give 32 random bytes as base64url") };
    let bytes = from_base64url(&key).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    let Some(bytes) = bytes else { return error(KEY, "is not 32 bytes as base64url without padding") };
    let timeout_s = timeout_s.map_or(Some(DEFAULT_ORIGIN_TIMEOUT_S), |text| text.parse().ok());
    let Some(timeout_s @ 1..=3_600) = timeout_s else {
        return error("ORIGIN_TIMEOUT_S", "is not a number of seconds from 1 to 3600");
    };
    Ok(Some(Origin { address, assertion_key: Secret(bytes), timeout_ms: timeout_s * 1_000 }))
}

fn public_https(scheme: Option<String>) -> Result<bool, ConfigError> {
    match scheme.as_deref() {
        None => Ok(false),
        Some("https") => Ok(true),
        Some(_) => {
            error("PUBLIC_SCHEME", "can only be https; leave it out where the worker itself is reached over TLS")
        }
    }
}

fn policy(json: Option<String>) -> Result<Policy, ConfigError> {
    let Some(json) = json else { return Ok(Policy::default()) };
    serde_json::from_str(&json).map_err(|problem| ConfigError(format!("binding POLICY: {problem}")))
}

fn prefix(path: Option<String>) -> Result<String, ConfigError> {
    let Some(path) = path else { return Ok("/auth".to_owned()) };
    let segment = |segment: &str| {
        !segment.is_empty()
            && segment != "."
            && segment != ".."
            && segment.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_' | b'~'))
    };
    match path.strip_prefix('/') {
        Some(rest) if rest.len() <= 64 && rest.split('/').all(segment) => Ok(path),
        _ => error("AUTH_PREFIX", "is not a path such as /auth, without a trailing slash"),
    }
}

fn header_name(name: Option<String>) -> Result<Option<String>, ConfigError> {
    match name {
        Some(name) if !name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-') => {
            error("CLIENT_ADDRESS_HEADER", "is not the name of a header")
        }
        name => Ok(name),
    }
}

fn subrequest_limit(limit: Option<String>) -> Result<u32, ConfigError> {
    match limit.map_or(Some(MIN_SUBREQUESTS), |text| text.parse().ok()) {
        Some(limit @ MIN_SUBREQUESTS..=MAX_SUBREQUESTS) => Ok(limit),
        _ => error("SUBREQUEST_LIMIT", "is not a number from 50 to 10000"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

    fn read(bindings: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let text = |name: &str| bindings.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned());
        Config::read(text, bindings.iter().any(|(name, _)| *name == "ORIGIN"))
    }

    const MINIMAL: [(&str, &str); 2] = [("COORDINATOR_URLS", "http://127.0.0.1:9000/"), ("EDGE_CREDENTIAL", "c")];

    #[test]
    fn without_parameters_every_path_needs_a_session() {
        let config = read(&MINIMAL).expect("a configuration");
        assert_eq!(config.coordinators, ["http://127.0.0.1:9000"]);
        assert_eq!(config.prefix, "/auth");
        assert_eq!(config.subrequest_limit, 50);
        assert!(config.origin.is_none() && config.client_address_header.is_none() && config.site.is_none());
        let session = edgekeep_shared::policy::Matched::Route(&edgekeep_shared::policy::RoutePolicy::SESSION);
        assert_eq!(config.policy.find("/", "GET"), session);
    }

    #[test]
    fn errors_name_the_binding_and_never_its_value() {
        let with = |name: &'static str, value: &'static str| {
            let mut bindings: Vec<_> = MINIMAL.iter().copied().filter(|(other, _)| *other != name).collect();
            bindings.push((name, value));
            read(&bindings).map(|_| ()).expect_err(name).0
        };
        for (name, value) in [
            ("COORDINATOR_URLS", ""),
            ("COORDINATOR_URLS", "ftp://s3cret"),
            ("COORDINATOR_URLS", "http://user:s3cret@host"),
            ("COORDINATOR_URLS", "http://host/s3cret"),
            ("RELAY_URLS", "http://host/s3cret"),
            ("RELAY_URLS", "http://relay"), // with a credential that nothing can be derived from
            ("EDGE_CREDENTIAL", ""),
            ("EDGE_CREDENTIAL", "s3cret s3cret"),
            ("ORIGIN_URL", "s3cret"),
            ("POLICY", "{"),
            ("AUTH_PREFIX", "s3cret"),
            ("AUTH_PREFIX", "/"),
            ("AUTH_PREFIX", "/a/"),
            ("AUTH_PREFIX", "/a/../b"),
            ("CLIENT_ADDRESS_HEADER", "s3cret: x"),
            ("PUBLIC_SCHEME", "s3cret"),
            ("SUBREQUEST_LIMIT", "s3cret"),
            ("SUBREQUEST_LIMIT", "49"),
            ("SUBREQUEST_LIMIT", "10001"),
        ] {
            let text = with(name, value);
            let named = if value == "http://relay" { "EDGE_CREDENTIAL" } else { name };
            assert!(text.starts_with(&format!("binding {named}")) && !text.contains("s3cret"), "{text}");
        }
        for key in [None, Some("s3cret"), Some("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9")] {
            let mut bindings = MINIMAL.to_vec();
            bindings.push(("ORIGIN_URL", "https://origin.example"));
            bindings.extend(key.map(|key| ("ASSERTION_KEY", key)));
            let text = read(&bindings).map(|_| ()).expect_err("a key").0;
            assert!(text.starts_with("binding ASSERTION_KEY") && !text.contains("s3cret"), "{text}");
        }
    }

    #[test]
    fn relays_see_a_derived_credential_only() {
        let own = edgekeep_shared::credential::edge_credential("eu-1", &[7; 32]);
        let bindings = [
            ("COORDINATOR_URLS", "http://127.0.0.1:9000"),
            ("RELAY_URLS", "http://127.0.0.1:9100/, https://relay.example"),
            ("EDGE_CREDENTIAL", own.as_str()),
        ];
        let config = read(&bindings).expect("a configuration");
        assert_eq!(config.relays, ["http://127.0.0.1:9100", "https://relay.example"]);
        assert_eq!(config.authorization.0, format!("Bearer {}", *own));
        let shown = config.relay_authorization.expect("one for relays").0;
        assert!(shown.starts_with("Bearer ekf_eu-1_") && !shown.contains(&own[8..]));
        assert!(read(&MINIMAL).expect("a configuration").relay_authorization.is_none());
    }

    #[test]
    fn one_origin() {
        let mut bindings = MINIMAL.to_vec();
        bindings.extend([("ORIGIN_URL", "https://origin.example"), ("ASSERTION_KEY", KEY)]);
        let origin = read(&bindings).expect("a configuration").origin.expect("an origin");
        assert_eq!(origin.address, OriginAddress::Url("https://origin.example".to_owned()));
        bindings.push(("ORIGIN_TIMEOUT_S", "30"));
        assert_eq!(read(&bindings).expect("a configuration").origin.expect("an origin").timeout_ms, 30_000);
        for bad in ["0", "3601", "soon"] {
            bindings.pop();
            bindings.push(("ORIGIN_TIMEOUT_S", bad));
            assert!(read(&bindings).is_err());
        }
        bindings.pop();
        bindings.push(("ORIGIN", ""));
        assert!(read(&bindings).is_err());
        bindings.retain(|(name, _)| *name != "ORIGIN_URL");
        assert_eq!(
            read(&bindings).expect("a configuration").origin.expect("an origin").address,
            OriginAddress::Binding
        );
    }
}
