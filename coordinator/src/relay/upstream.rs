//! Asking the upstreams: one question at a time, each with a deadline that covers the whole answer.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderValue, Method, Request, StatusCode, header};
use edgekeep_shared::feed::{self, Answer, ENTRY_BYTES, MAX_ENTRIES, Question};
use edgekeep_shared::position::MAX_IN_PROGRESS;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::timeout;

use crate::config::ConfigError;

/// The longest answer: two positions, a page's token with one more, entries, and the rest of the head.
const MAX_ANSWER_BYTES: usize = 256 + 3 * (10 + 8 * MAX_IN_PROGRESS) + MAX_ENTRIES * ENTRY_BYTES;
/// The longest answer about a credential that is read.
const MAX_SMALL_BYTES: usize = 4 * 1024;
/// How long opening a connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// Connections that nobody uses are closed before the upstream closes them.
const IDLE_LIMIT: Duration = Duration::from_secs(20);

/// A credential as it is sent.
pub(super) fn authorization(credential: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {credential}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Why there is no answer from one upstream.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    /// It answered with this status.
    #[error("it answered {0}")]
    Status(StatusCode),
    /// It did not answer within its time.
    #[error("no answer in time")]
    Late,
    /// The connection failed.
    #[error("no connection: {0}")]
    Connection(String),
    /// What it answered makes no sense.
    #[error("the answer cannot be read")]
    Malformed,
}

/// The upstreams.
pub(super) struct Upstreams {
    client: Client<HttpsConnector<HttpConnector>, Body>,
    bases: Vec<String>,
    authorization: HeaderValue,
}

impl Upstreams {
    pub(super) fn new(bases: Vec<String>, credential: &str) -> Result<Self, ConfigError> {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_LIMIT));
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()
            .map_err(|error| ConfigError::new(format!("the system's certificates cannot be read: {error}")))?
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_LIMIT)
            .build(connector);
        let authorization =
            authorization(credential).ok_or_else(|| ConfigError::new("relay.credential is malformed"))?;
        Ok(Self { client, bases, authorization })
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.bases.len()
    }

    /// The address of one.
    pub(super) fn base(&self, index: usize) -> &str {
        self.bases.get(index).map_or("", String::as_str)
    }

    /// Asks one for what is past a cursor.
    pub(super) async fn poll(&self, index: usize, question: &Question, limit: Duration) -> Result<Answer, Lost> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}/v1/feed", self.base(index)))
            .header(header::AUTHORIZATION, self.authorization.clone())
            .header(header::CONTENT_TYPE, feed::CONTENT_TYPE)
            .body(Body::from(question.encode()))
            .map_err(|_| Lost::Malformed)?;
        let (status, bytes) = self.send(request, MAX_ANSWER_BYTES, limit).await?;
        if status != StatusCode::OK {
            return Err(Lost::Status(status));
        }
        Answer::decode(&bytes).map_err(|_| Lost::Malformed)
    }

    /// Asks one whether an edge's feed credential counts.
    pub(super) async fn counts(&self, index: usize, authorization: HeaderValue, limit: Duration) -> Result<bool, Lost> {
        let request = Request::builder()
            .uri(format!("{}/v1/feed/follower", self.base(index)))
            .header(header::AUTHORIZATION, authorization)
            .body(Body::empty())
            .map_err(|_| Lost::Malformed)?;
        match self.send(request, MAX_SMALL_BYTES, limit).await?.0 {
            StatusCode::OK => Ok(true),
            StatusCode::UNAUTHORIZED => Ok(false),
            status => Err(Lost::Status(status)),
        }
    }

    async fn send(
        &self,
        request: Request<Body>,
        max_bytes: usize,
        limit: Duration,
    ) -> Result<(StatusCode, axum::body::Bytes), Lost> {
        let asked = async {
            let response = self.client.request(request).await.map_err(|error| Lost::Connection(chain(&error)))?;
            let status = response.status();
            let bytes = to_bytes(Body::new(response.into_body()), max_bytes).await.map_err(|_| Lost::Malformed)?;
            Ok((status, bytes))
        };
        timeout(limit, asked).await.unwrap_or(Err(Lost::Late))
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use edgekeep_shared::feed::{Entry, Head, PageToken};
    use edgekeep_shared::ids::{Nonce, UserId};
    use edgekeep_shared::position::Position;
    use edgekeep_shared::revision::Revision;

    use super::*;

    #[test]
    fn the_longest_answer_is_read_and_not_much_more() {
        let full = u64::try_from(MAX_IN_PROGRESS).unwrap();
        let longest = Position::new(u64::MAX, (1..=full).collect()).unwrap();
        let token = PageToken { instance: 1, to: longest.clone(), read_at_ms: 1, after: (1, 1) };
        let head = Head {
            nonce: Nonce([1; 16]),
            epoch: 1,
            from: Some(longest.clone()),
            to: longest,
            age_ms: 1,
            held_ms: 1,
            read_at_ms: 1,
            keys_version: 1,
            settings_version: 1,
            max_staleness_ms: 1,
            next_page: Some(token),
        };
        let entry = Entry { user_id: UserId(1), revision: Revision(1), needed_until_ms: 1 };
        let bytes = Answer { head, entries: vec![entry; MAX_ENTRIES] }.encode();
        assert!((bytes.len()..=bytes.len() + 256).contains(&MAX_ANSWER_BYTES), "{}", bytes.len());
        assert!(Answer::decode(&bytes).is_ok());
    }

    #[test]
    fn upstreams_are_counted_and_named_in_their_order() {
        let bases = ["http://a:1", "http://b:2"].map(str::to_owned);
        let upstreams = Upstreams::new(bases.to_vec(), "x").unwrap();
        assert_eq!((upstreams.count(), upstreams.base(0), upstreams.base(1)), (2, "http://a:1", "http://b:2"));
        assert!(Upstreams::new(bases.to_vec(), "a line\nbreak").is_err());
    }

    #[tokio::test]
    async fn why_there_is_no_connection_is_said_to_the_last_cause() {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let upstreams = Upstreams::new(vec![format!("http://{nobody}")], "x").unwrap();
        let question = Question { nonce: Nonce([1; 16]), epoch: 0, from: None, page: None, hold_ms: 0 };
        let lost = upstreams.poll(0, &question, Duration::from_secs(20)).await.unwrap_err().to_string();
        assert!(lost.starts_with("no connection: ") && lost.contains("refused"), "{lost}");
    }
}
