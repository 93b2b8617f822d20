//! A part of a cluster that answers at an address.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use super::PATIENCE;
use crate::endpoints::Endpoint;
use crate::probe;
use crate::process::Part;

/// One running part with an address.
#[derive(Debug)]
pub struct Node {
    /// The process.
    pub part: Part,
    /// Its port on loopback.
    pub port: u16,
    /// Its address, without a slash at the end.
    pub url: String,
    /// Which path says that it is ready.
    pub(super) ready_path: &'static str,
    /// The Node.js to ask with, if it speaks TLS.
    pub(super) tls_through: Option<PathBuf>,
}

impl Node {
    pub(super) fn endpoint(&self) -> Endpoint {
        Endpoint { url: self.url.clone(), pid: Some(self.part.pid()), pids: self.part.pids() }
    }

    /// Waits until it answers as one that is ready.
    ///
    /// # Errors
    /// If it ends or does not get ready in time.
    pub fn wait(&mut self) -> Result<()> {
        let (port, path) = (self.port, self.ready_path);
        let (node, limit) = (self.tls_through.clone(), Duration::from_secs(5));
        self.part.wait_until(PATIENCE, || {
            let status = match &node {
                Some(node) => probe::status_over_tls(node, port, path, limit),
                None => probe::status(port, path, limit),
            };
            status == Some(200)
        })
    }

    /// Kills it (SIGKILL), with all that it started.
    pub fn kill(&mut self) {
        self.part.kill();
    }

    /// Starts it again on the same port after it has ended, and waits until it is ready.
    ///
    /// # Errors
    /// If it still runs or does not come up.
    pub fn start_again(&mut self) -> Result<()> {
        self.part.start_again()?;
        self.wait()
    }
}
