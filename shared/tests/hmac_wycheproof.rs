//! The HMAC that everything rests on, against Google's Wycheproof vectors.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)] // a failed expectation is a failed test

use edgekeep_shared::keyring::keyed;
use hmac::Mac;
use wycheproof::TestResult;
use wycheproof::mac::{TestName, TestSet};

#[test]
fn hmac_sha256_passes_wycheproof() {
    let set = TestSet::load(TestName::HmacSha256).expect("vectors");
    let mut checked = 0;
    for group in &set.test_groups {
        for test in &group.tests {
            let mut mac = keyed(&test.key);
            mac.update(&test.msg);
            let full: [u8; 32] = mac.finalize().into_bytes().into();
            let matches = full[..group.tag_size / 8] == test.tag[..];
            match test.result {
                TestResult::Valid => assert!(matches, "{}", test.comment),
                TestResult::Invalid => assert!(!matches, "{}", test.comment),
                TestResult::Acceptable => {}
            }
            checked += 1;
        }
    }
    assert!(checked > 100, "{checked} vectors");
}
