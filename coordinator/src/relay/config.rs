//! `[relay]`: where a relay gets the feed, and as whom.

use std::path::PathBuf;

use edgekeep_shared::credential::feed_credential;
use hyper::Uri;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::config::ConfigError;

/// The most upstreams that are tried.
const MAX_UPSTREAMS: usize = 8;

/// `[relay]`
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RelayConfig {
    /// Addresses of coordinators (or of other relays), separated by commas.
    pub upstream_urls: String,
    /// A credential as `edgekeep edge add` prints it; with `--feed-only` it is good for nothing else.
    pub credential: Option<String>,
    /// The same, in a file.
    pub credential_file: Option<PathBuf>,
}

impl std::fmt::Debug for RelayConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { upstream_urls, credential, credential_file } = self;
        f.debug_struct("RelayConfig")
            .field("upstream_urls", upstream_urls)
            .field("credential", &credential.as_ref().map(|_| ".."))
            .field("credential_file", credential_file)
            .finish()
    }
}

impl RelayConfig {
    /// Scheme and authority of each upstream, in the order given.
    ///
    /// # Errors
    /// When there is none, too many, or one that is no address.
    pub fn upstreams(&self) -> Result<Vec<String>, ConfigError> {
        let urls = self.upstream_urls.split(',').map(str::trim).filter(|url| !url.is_empty());
        let bases = urls.map(base_url).collect::<Option<Vec<_>>>().ok_or_else(|| {
            ConfigError::new("relay.upstream_urls (or --upstream) has an entry that is not http(s)://host[:port]")
        })?;
        match bases.len() {
            0 => Err(ConfigError::new("relay.upstream_urls (or --upstream) is missing: name a coordinator's address")),
            1..=MAX_UPSTREAMS => Ok(bases),
            _ => Err(ConfigError::new(format!("relay.upstream_urls names more than {MAX_UPSTREAMS} addresses"))),
        }
    }

    /// What upstreams are shown: the feed credential, also if the whole one is configured.
    ///
    /// # Errors
    /// When it is missing, unreadable or malformed; never says what it is.
    pub fn feed_credential(&self) -> Result<Zeroizing<String>, ConfigError> {
        let text = match (&self.credential, &self.credential_file) {
            (Some(_), Some(_)) => {
                return Err(ConfigError::new("relay.credential and relay.credential_file are both set: keep one"));
            }
            (Some(text), None) => Zeroizing::new(text.clone()),
            (None, Some(path)) => Zeroizing::new(std::fs::read_to_string(path).map_err(|error| {
                ConfigError::new(format!("relay.credential_file: cannot read {}: {error}", path.display()))
            })?),
            (None, None) => {
                return Err(ConfigError::new(
                    "relay.credential_file (or EDGEKEEP_RELAY__CREDENTIAL) is missing: `edgekeep edge add NAME --feed-only` \
                     makes one",
                ));
            }
        };
        feed_credential(text.trim())
            .ok_or_else(|| ConfigError::new("relay.credential is not one that `edgekeep edge add` prints"))
    }
}

/// `scheme://authority`, if that is all there is (a trailing slash is fine, user names and paths are not).
fn base_url(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https"))?;
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
    (uri.path() == "/" && uri.query().is_none()).then(|| format!("{scheme}://{authority}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_are_plain_addresses() {
        let config = |urls: &str| RelayConfig { upstream_urls: urls.into(), ..RelayConfig::default() };
        let read = |urls: &str| config(urls).upstreams().map_err(|error| error.to_string());
        assert_eq!(read("http://a:1/, https://b").unwrap(), ["http://a:1", "https://b"]);
        for bad in ["", "a", "ftp://a", "http://u:p@a", "http://a/x", "http://a/?q", "http://a,,b"] {
            assert!(read(bad).unwrap_err().contains("relay.upstream_urls"), "{bad}");
        }
        assert_eq!(read(&["http://a"; 8].join(",")).unwrap().len(), 8);
        assert!(read(&["http://a"; 9].join(",")).unwrap_err().contains("more than 8"));
        assert!(read(" ").unwrap_err().contains("missing"));
    }

    #[test]
    fn upstreams_are_shown_the_feed_credential_only_and_nobody_else_any() {
        let own = edgekeep_shared::credential::edge_credential("relay-1", &[7; 32]);
        let config = RelayConfig { credential: Some(own.to_string()), ..RelayConfig::default() };
        let shown = config.feed_credential().unwrap();
        assert!(shown.starts_with("ekf_relay-1_"));
        let debug = format!("{config:?}");
        assert!(debug.contains("upstream_urls") && !debug.contains(own.as_str()), "{debug}");
        let again = RelayConfig { credential: Some(shown.to_string()), ..RelayConfig::default() };
        assert_eq!(again.feed_credential().unwrap(), shown);
        let bad = RelayConfig { credential: Some("s3cret".into()), ..RelayConfig::default() };
        assert!(!bad.feed_credential().unwrap_err().to_string().contains("s3cret"));
        assert!(RelayConfig::default().feed_credential().is_err());
    }
}
