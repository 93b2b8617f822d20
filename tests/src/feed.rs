//! The feed as an edge asks for it, for tests that look at what is sent and what is not.

use std::net::SocketAddr;

use edgekeep_shared::feed::{Answer, CONTENT_TYPE, Question};
use edgekeep_shared::ids::Nonce;
use edgekeep_shared::position::Position;

use crate::http::{self, Request, Response};

/// Follows the feed of one coordinator, without a view.
#[derive(Debug)]
pub struct Follower {
    coordinator: SocketAddr,
    authorization: String,
    epoch: u16,
    from: Option<Position>,
}

impl Follower {
    /// One that has seen nothing yet.
    #[must_use]
    pub fn new(coordinator: SocketAddr, credential: &str) -> Self {
        Self { coordinator, authorization: format!("Bearer {credential}"), epoch: 0, from: None }
    }

    /// Asks with this position instead of the last one.
    pub fn rewind(&mut self, to: Option<Position>) {
        self.from = to;
    }

    /// Where it stands.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.from.clone()
    }

    /// Asks once; the raw answer.
    #[must_use]
    pub fn ask_raw(&self, hold_ms: u32) -> (Question, Response) {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).expect("randomness");
        let question =
            Question { nonce: Nonce(nonce), epoch: self.epoch, from: self.from.clone(), page: None, hold_ms };
        let request = Request::new("POST", "/v1/feed")
            .header("Authorization", &self.authorization)
            .header("Edgekeep-Request-Id", "e2e-feed")
            .body(CONTENT_TYPE, question.encode());
        (question, http::send(self.coordinator, &request).expect("an answer"))
    }

    /// Asks until the coordinator answers, and moves on.
    pub fn ask(&mut self, hold_ms: u32) -> Answer {
        let answer = crate::until("the coordinator answers a poll", || {
            let (question, response) = self.ask_raw(hold_ms);
            (response.status == 200).then(|| {
                let answer = Answer::decode(&response.body).expect("an answer that can be read");
                assert_eq!(answer.head.nonce, question.nonce);
                answer
            })
        });
        assert!(answer.head.next_page.is_none(), "one page is enough for a test");
        (self.epoch, self.from) = (answer.head.epoch, Some(answer.head.to.clone()));
        answer
    }
}
