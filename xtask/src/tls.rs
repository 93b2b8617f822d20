//! A certificate of our own for `--https`, because Safari drops `Secure` cookies on plain-HTTP localhost.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::paths;

/// A certificate for this machine's loopback names, and its key.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// PEM.
    pub certificate: PathBuf,
    /// PEM, readable by its owner only.
    pub key: PathBuf,
}

impl Certificate {
    /// The one in `folder`, made when it is not there yet. Browsers ask once before they trust it.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn ensure(folder: &Path) -> Result<Self> {
        let files = Self { certificate: folder.join("certificate.pem"), key: folder.join("certificate-key.pem") };
        if !files.certificate.exists() || !files.key.exists() {
            let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
            let made = rcgen::generate_simple_self_signed(names).context("cannot make a certificate")?;
            paths::write_private(&files.key, &made.signing_key.serialize_pem())?;
            paths::write_private(&files.certificate, &made.cert.pem())?;
        }
        Ok(files)
    }
}
