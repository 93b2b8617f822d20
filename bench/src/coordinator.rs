//! Questions to a coordinator as an edge asks them.

use anyhow::{Context as _, Result};
use edgekeep_shared::api::{CheckRequest, Client, LoginAnswer, LoginRequest, LogoutRequest};
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
        request("POST", path, &[("Authorization", &self.authorization), ("Content-Type", content_type)], body)
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

/// So many users without roles, for a cluster's options.
#[must_use]
pub fn users(count: usize) -> Vec<(String, Vec<String>)> {
    (0..count).map(|index| (format!("user-{index}"), Vec::new())).collect()
}
