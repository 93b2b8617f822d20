//! What is served, to whom, and how it is refused.

use std::time::{Duration, Instant};

use edgekeep_shared::feed::{self, Answer};
use edgekeep_shared::problem::{Code, Problem};
use serde_json::json;

use crate::database::Database;
use crate::http::{Response, Server};
use crate::rig::{cursor, until, users};

fn problem(response: &Response) -> Problem {
    assert_eq!(response.header("content-type"), Some("application/problem+json"));
    serde_json::from_slice(&response.body).expect("a problem of the protocol")
}

#[tokio::test]
async fn an_edge_fetches_keys_polls_and_checks() {
    let database = Database::fresh().await;
    database.users(200).await;
    let server = Server::start(&database, "").await;
    let keys = server.keys().await;
    assert_eq!((keys.nonce.0, keys.site.as_str(), keys.keys.len()), ([4; 16], "main", 1));
    assert_eq!((keys.form_secret.len(), keys.sessions_per_user, keys.password_min_chars), (64, 1, 15));
    assert!(keys.version == server.app.keys.version() && keys.now_ms > 1_600_000_000_000);

    let ask = async |question: feed::Question| {
        let response = server.post_with(&server.credential, "/v1/feed", feed::CONTENT_TYPE, &question.encode()).await;
        assert_eq!((response.status, response.header("content-type")), (200, Some(feed::CONTENT_TYPE)));
        assert_eq!(response.header("cache-control"), Some("no-store"));
        Answer::decode(&response.body).unwrap()
    };
    let first = ask(cursor(None, None, 0)).await;
    assert!(first.entries.is_empty());
    database
        .sql(
            "UPDATE user_state SET revision = 1, needed_until = now() + interval '1 minute',
                  feed_xid = pg_current_xact_id()::text::bigint",
        )
        .await;
    let began = Instant::now();
    let second = ask(cursor(Some((first.head.epoch, first.head.to.clone())), None, 5_000)).await;
    println!("200 entries over HTTP after {:?}", began.elapsed());
    assert_eq!(users(&second).len(), 200);

    let check = json!({"nonce": "05".repeat(16), "token": "nonsense", "renew": true});
    let answer = server.post("/v1/check", &check).await;
    assert_eq!((answer.status, &answer.json()["verdict"]["verdict"]), (200, &json!("ended")));
    assert_eq!(answer.json()["verdict"]["reason"], "invalid");
}

#[tokio::test]
async fn nobody_else_gets_in() {
    let database = Database::fresh().await;
    let server = Server::start(&database, "").await;
    let body = br#"{"nonce":"04040404040404040404040404040404"}"#;
    let refused = async |headers: &[(&str, &str)]| {
        let response = server.send("POST", "/v1/keys", headers, body).await;
        assert_eq!(response.status, 401, "{headers:?}");
        assert!(response.header("www-authenticate").is_some());
        assert_eq!(response.json(), json!({"type": "about:blank", "title": "Unauthorized", "status": 401}));
        assert!(serde_json::from_slice::<Problem>(&response.body).is_err(), "no word about users or sessions");
    };
    let good = format!("Bearer {}", server.credential);
    refused(&[]).await;
    refused(&[("Authorization", &server.credential)]).await;
    refused(&[("Authorization", &format!("Basic {}", server.credential))]).await;
    refused(&[("Authorization", &good[..good.len() - 1])]).await;
    refused(&[("Authorization", &good), ("Authorization", &good)]).await;
    for route in edgekeep::http::routes::ROUTES {
        if route.caller != edgekeep::http::routes::Caller::Anyone {
            let response = server.send(route.method, route.path, &[], b"").await;
            assert_eq!(response.status, 401, "{}", route.path);
        }
    }
    assert!(server.app.metrics.edge_refused.get() >= 15);
    // What is derived for relays opens the feed and nothing else.
    let feed = edgekeep_shared::credential::feed_credential(&server.credential).unwrap();
    let feed = format!("Bearer {}", *feed);
    for route in edgekeep::http::routes::ROUTES {
        let status = server.send(route.method, route.path, &[("Authorization", &feed)], b"").await.status;
        match route.caller {
            edgekeep::http::routes::Caller::Edge => assert_eq!(status, 401, "{}", route.path),
            _ => assert_ne!(status, 401, "{}", route.path),
        }
    }
    let whose = server.send("GET", "/v1/feed/follower", &[("Authorization", &feed)], b"").await;
    assert_eq!((whose.status, whose.json()), (200, json!({ "edge": "edge-1" })));

    // Revoked while it is connected: refused from the reader's next read on.
    let mut connection = database.connection().await;
    edgekeep::edges::revoke(&mut connection, &server.app.secrets.seal_key, "edge-1").await.unwrap();
    let began = Instant::now();
    until("it is refused", || server.app.edges.authenticate(&server.credential).is_none()).await;
    println!("revoked credential refused after {:?}", began.elapsed());
    refused(&[("Authorization", &good), ("Content-Type", "application/json")]).await;
    assert_eq!(server.send("GET", "/v1/feed/follower", &[("Authorization", &feed)], b"").await.status, 401);
}

#[tokio::test]
async fn every_way_to_ask_wrongly_has_its_answer() {
    let database = Database::fresh().await;
    let server = Server::start(&database, "").await;
    let post = async |path: &str, content_type: &str, body: &[u8]| {
        server.post_with(&server.credential, path, content_type, body).await
    };
    let json = "application/json";
    let keys = br#"{"nonce":"04040404040404040404040404040404"}"#;
    for (path, content_type, body, status, code) in [
        ("/v1/keys", "text/plain", keys.as_slice(), 415, Code::UnsupportedMediaType),
        ("/v1/keys", json, b"{", 400, Code::InvalidRequest),
        ("/v1/keys", json, b"{}", 400, Code::InvalidRequest),
        ("/v1/keys", json, br#"{"nonce":"04"}"#, 400, Code::InvalidRequest),
        ("/v1/keys", json, br#"{"nonce":"04040404040404040404040404040404","more":1}"#, 400, Code::InvalidRequest),
        (
            "/v1/keys",
            json,
            br#"{"nonce":"04040404040404040404040404040404","nonce":"04040404040404040404040404040404"}"#,
            400,
            Code::InvalidRequest,
        ),
        ("/v1/keys", json, br#"{"nonce":"04040404040404040404040404040404"} {}"#, 400, Code::InvalidRequest),
        ("/v1/keys", json, &[b' '; 70_000], 413, Code::TooLarge),
        ("/v1/feed", feed::CONTENT_TYPE, b"no question", 400, Code::InvalidRequest),
        ("/v1/feed", json, b"{}", 415, Code::UnsupportedMediaType),
    ] {
        let response = post(path, content_type, body).await;
        let problem = problem(&response);
        assert_eq!((response.status, problem.status, problem.code), (status, status, code), "{}", problem.detail);
    }
    // Nothing of the body comes back: it may hold a password.
    let leaked =
        post("/v1/login", json, br#"{"username":"a","password":{"secret-word":1},"idempotency_key":"k"}"#).await;
    assert!(leaked.status == 400 && !String::from_utf8_lossy(&leaked.body).contains("secret-word"));
    assert_eq!(post("/v1/keys", "application/json; charset=utf-8", keys).await.status, 200);

    let missing = server.get("/v2/keys").await;
    assert_eq!((missing.status, missing.json()["type"].as_str()), (404, Some("about:blank")));
    let wrong = server.get("/v1/keys").await;
    assert_eq!(wrong.status, 401, "not even the method is told to strangers");
    let authorization = format!("Bearer {}", server.credential);
    let wrong = server.send("GET", "/v1/keys", &[("Authorization", &authorization)], b"").await;
    assert_eq!(
        (wrong.status, problem(&wrong).code, wrong.header("allow")),
        (405, Code::MethodNotAllowed, Some("POST"))
    );
    let wrong = server.send("POST", "/healthz", &[], b"").await;
    assert_eq!((wrong.status, problem(&wrong).code), (405, Code::MethodNotAllowed));
    assert_eq!(wrong.header("allow"), Some("GET,HEAD"));
    let (whole, head) = (server.get("/healthz").await, server.send("HEAD", "/healthz", &[], b"").await);
    assert_eq!((head.status, head.header("content-length")), (200, whole.header("content-length")));
    assert!(head.body.is_empty() && !whole.body.is_empty());
}

#[tokio::test]
async fn request_ids_cross_and_nothing_may_be_stored() {
    let database = Database::fresh().await;
    let server = Server::start(&database, "").await;
    let echoed = server.send("GET", "/healthz", &[("Edgekeep-Request-Id", "abc-1.2")], b"").await;
    assert_eq!(echoed.header("edgekeep-request-id"), Some("abc-1.2"));
    let made = server.send("GET", "/healthz", &[("Edgekeep-Request-Id", "a b\"c")], b"").await;
    assert_eq!(made.header("edgekeep-request-id").map(str::len), Some(24));
    for path in ["/healthz", "/readyz", "/metrics", "/nowhere"] {
        let response = server.get(path).await;
        assert_eq!(response.header("cache-control"), Some("no-store"), "{path}");
        assert_eq!(response.header("x-content-type-options"), Some("nosniff"), "{path}");
    }
    assert_eq!(server.get("/readyz").await.json()["status"], "ready");
    server.keys().await;
    let metrics = String::from_utf8(server.get("/metrics").await.body).unwrap();
    assert!(metrics.contains("edgekeep_http_requests_total{route=\"/v1/keys\",status=\"200\"} 1"), "{metrics}");
    assert!(metrics.contains("route=\"other\",status=\"404\"") && !metrics.contains("edge-1"));
    assert!(metrics.contains("edgekeep_feed_age_milliseconds"));
}

#[tokio::test]
async fn shutting_down_releases_held_polls_and_ends() {
    let database = Database::fresh().await;
    let server = Server::start(&database, "").await;
    let first =
        server.post_with(&server.credential, "/v1/feed", feed::CONTENT_TYPE, &cursor(None, None, 0).encode()).await;
    let at = Answer::decode(&first.body).unwrap();
    let question = cursor(Some((at.head.epoch, at.head.to)), None, 60_000).encode();
    let app = std::sync::Arc::clone(&server.app);
    let address = server.address;
    let of_a_relay = edgekeep_shared::credential::feed_credential(&server.credential).unwrap();
    let poll = |credential: String, question: Vec<u8>| async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let head = format!(
            "POST /v1/feed HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {credential}\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n",
            feed::CONTENT_TYPE,
            question.len()
        );
        stream.write_all(&[head.as_bytes(), &question].concat()).await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        all
    };
    let of_an_edge = tokio::spawn(poll(server.credential.clone(), question.clone()));
    until("it is held", || app.feed.held() == 1).await;
    assert_eq!(app.feed.held_by_relays(), 0);
    let of_a_relay = tokio::spawn(poll(of_a_relay.to_string(), question));
    until("it is held", || app.feed.held() == 2).await;
    assert_eq!(app.feed.held_by_relays(), 1);
    let began = Instant::now();
    let served = server.stop();
    for held in [of_an_edge, of_a_relay] {
        let answer = held.await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200"), "an answer, not a broken connection");
    }
    served.await.unwrap().unwrap();
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nothing listens any more");
}

#[tokio::test]
async fn a_database_that_went_back_ends_the_service_with_an_error() {
    let database = Database::fresh().await;
    let server = Server::start(&database, "").await;
    database.sql("DELETE FROM heartbeat").await;
    let app = std::sync::Arc::clone(&server.app);
    until("it stops", || app.feed.settings().is_none()).await;
    let ended = tokio::time::timeout(Duration::from_secs(20), server.served()).await.expect("ended").unwrap();
    assert!(ended.unwrap_err().to_string().contains("went back in time"));
}
