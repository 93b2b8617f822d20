//! Questions to a coordinator as an edge asks them.

use anyhow::{Context as _, Result};
use edgekeep_shared::api::{CheckRequest, Client, KeysAnswer, KeysRequest, LoginAnswer, LoginRequest, LogoutRequest};
use edgekeep_shared::ids::Nonce;
use serde::Serialize;
use xtask::cluster::Cluster;
use xtask::paths;
use xtask::state::User;

use crate::http::{Connection, request};
use crate::workerd::at;

/// One coordinator, and the credential that it knows us by.
#[derive(Clone, Debug)]
pub struct Coordinator {
    /// Its port on loopback.
    pub port: u16,
    authorization: String,
}

impl Coordinator {
    /// The first of a cluster.
    ///
    /// # Errors
    /// If there is none.
    pub fn first(cluster: &Cluster) -> Result<Self> {
        let port = cluster.coordinators.first().context("no coordinator")?.port;
        Ok(Self { port, authorization: format!("Bearer {}", cluster.edge_credential()) })
    }

    /// The bytes of a question.
    #[must_use]
    pub fn ask(&self, path: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
        // As edges do, with an id of theirs.
        let id = ("Edgekeep-Request-Id", "4f1d2a7b90c35e6812ab43cd");
        request("POST", path, &[("Authorization", &self.authorization), ("Content-Type", content_type), id], body)
    }

    fn ask_json(&self, path: &str, body: &impl Serialize) -> Result<Vec<u8>> {
        Ok(self.ask(path, "application/json", &serde_json::to_vec(body)?))
    }

    /// A login under a fresh idempotency key.
    ///
    /// # Errors
    /// If there is no randomness.
    pub fn login(&self, user: &User) -> Result<Vec<u8>> {
        self.ask_json(
            "/v1/login",
            &LoginRequest {
                username: user.name.clone(),
                password: user.password.clone(),
                idempotency_key: paths::random_password()?,
                presented: Vec::new(),
                client: Client::default(),
                wait_s: None,
            },
        )
    }

    /// The key set and what else an edge is told with it.
    ///
    /// # Errors
    /// If it is refused.
    pub fn keys(&self) -> Result<KeysAnswer> {
        let mut body = Vec::new();
        let sent = self.ask_json("/v1/keys", &KeysRequest { nonce: Nonce([4; 16]) })?;
        let answer = Connection::open(at(self.port))?.exchange(&sent, Some(&mut body))?;
        anyhow::ensure!(answer.status == 200, "the keys were answered with {}", answer.status);
        Ok(serde_json::from_slice(&body)?)
    }

    /// A strict check, or a renewal.
    ///
    /// # Errors
    /// None that is known.
    pub fn check(&self, token: &str, renew: bool) -> Result<Vec<u8>> {
        self.ask_json("/v1/check", &CheckRequest { nonce: Nonce([3; 16]), token: token.to_owned(), renew })
    }

    /// A logout of this session.
    ///
    /// # Errors
    /// None that is known.
    pub fn logout(&self, token: &str) -> Result<Vec<u8>> {
        self.ask_json("/v1/logout", &LogoutRequest { tokens: vec![token.to_owned()], wait_s: None })
    }

    /// Signs a user in and gives the answer.
    ///
    /// # Errors
    /// If it is refused.
    pub fn sign_in(&self, user: &User) -> Result<LoginAnswer> {
        let mut body = Vec::new();
        let answer = Connection::open(at(self.port))?.exchange(&self.login(user)?, Some(&mut body))?;
        anyhow::ensure!(answer.status == 200, "{}: {}", answer.status, String::from_utf8_lossy(&body));
        Ok(serde_json::from_slice(&body)?)
    }
}

/// What a coordinator or a relay counts under this name, added up over all labels, or over those lines that have `label`.
///
/// # Errors
/// If it does not tell.
pub fn metric(port: u16, name: &str, label: &str) -> Result<f64> {
    let mut body = Vec::new();
    let answer = Connection::open(at(port))?.exchange(&request("GET", "/metrics", &[], b""), Some(&mut body))?;
    anyhow::ensure!(answer.status == 200, "the metrics were answered with {}", answer.status);
    Ok(added_up(&String::from_utf8(body)?, name, label))
}

fn added_up(text: &str, name: &str, label: &str) -> f64 {
    let of_name = |line: &&str| line.split([' ', '{']).next() == Some(name) && line.contains(label);
    text.lines().filter(of_name).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// So many users without roles, for a cluster's options.
#[must_use]
pub fn users(count: usize) -> Vec<(String, Vec<String>)> {
    (0..count).map(|index| (format!("user-{index}"), Vec::new())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_added_up_by_name_and_label() {
        let text =
            "# TYPE a counter\na_total{route=\"/x\",status=\"200\"} 3\na_total{route=\"/y\"} 4\na_total_b 9\nc 2\n";
        assert_eq!(added_up(text, "a_total", ""), 7.0);
        assert_eq!(added_up(text, "a_total", "/x"), 3.0);
        assert_eq!(added_up(text, "c", ""), 2.0);
        assert_eq!(added_up(text, "d", ""), 0.0);
    }
}
