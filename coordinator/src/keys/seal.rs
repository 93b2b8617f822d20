//! Signing keys at rest: XChaCha20-Poly1305 under the deployment's seal key, bound to their key id.

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use edgekeep_shared::ids::KeyId;
use edgekeep_shared::keyring::Secret;
use zeroize::Zeroizing;

/// Bytes of the nonce, which stands before the ciphertext.
const NONCE_BYTES: usize = 24;

/// The sealed key cannot be opened: another seal key, another key id, or damaged bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a signing key cannot be opened with this seal key")]
pub struct CannotOpen;

fn associated(id: KeyId) -> [u8; 24] {
    let mut data = *b"edgekeep signing key\0\0\0\0";
    data[20..].copy_from_slice(&id.0.to_be_bytes());
    data
}

/// Seals a key. `nonce` must be fresh random bytes.
///
/// # Errors
/// Never with a key of this size; the cipher's interface allows it.
pub fn seal(seal_key: &Secret, id: KeyId, key: &Secret, nonce: [u8; NONCE_BYTES]) -> Result<Vec<u8>, CannotOpen> {
    let cipher = XChaCha20Poly1305::new(&seal_key.0.into());
    let sealed =
        cipher.encrypt(&XNonce::from(nonce), Payload { msg: &key.0, aad: &associated(id) }).map_err(|_| CannotOpen)?;
    Ok([nonce.as_slice(), &sealed].concat())
}

/// Opens a sealed key.
///
/// # Errors
/// When it was not sealed with this seal key for this key id.
pub fn open(seal_key: &Secret, id: KeyId, sealed: &[u8]) -> Result<Secret, CannotOpen> {
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(CannotOpen)?;
    let cipher = XChaCha20Poly1305::new(&seal_key.0.into());
    let opened = Zeroizing::new(
        cipher.decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: &associated(id) }).map_err(|_| CannotOpen)?,
    );
    <[u8; 32]>::try_from(opened.as_slice()).map(Secret).map_err(|_| CannotOpen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_key_opens_only_with_its_seal_key_and_id() {
        let (seal_key, key) = (Secret([1; 32]), Secret([2; 32]));
        let sealed = seal(&seal_key, KeyId(7), &key, [3; 24]).unwrap();
        assert_eq!(open(&seal_key, KeyId(7), &sealed).unwrap().0, key.0);
        assert!(open(&seal_key, KeyId(8), &sealed).is_err());
        assert!(open(&Secret([9; 32]), KeyId(7), &sealed).is_err());
        let mut damaged = sealed.clone();
        damaged[30] ^= 1;
        assert!(open(&seal_key, KeyId(7), &damaged).is_err());
        assert!(open(&seal_key, KeyId(7), &sealed[..20]).is_err());
    }
}
