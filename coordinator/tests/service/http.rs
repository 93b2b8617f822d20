//! A whole coordinator on loopback, and the smallest client for it.

use std::net::SocketAddr;
use std::sync::Arc;

use edgekeep::App;
use edgekeep::config::Config;
use edgekeep_shared::api::{KeysAnswer, KeysRequest};
use edgekeep_shared::ids::Nonce;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::database::Database;
use crate::rig::until;

pub struct Server {
    pub app: Arc<App>,
    pub address: SocketAddr,
    pub credential: String,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<Result<(), edgekeep::http::ServeError>>,
}

pub struct Response {
    pub status: u16,
    head: String,
    pub body: Vec<u8>,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&self.body)))
    }
}

/// A configuration for a test's database.
pub fn config(database: &Database, more: &str) -> Config {
    let secret = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
    let options = &database.options;
    let mut url = url_of_server();
    url.truncate(url.rfind('/').unwrap() + 1);
    let text = format!(
        "database_url = \"{url}{}\"\n{more}\n[argon2]\nmemory_kib = 1024\npasses = 1\n[secrets]\nseal_key = \"{secret}\"\nsubject_key = \"{secret}\"\nattempt_key = \"{secret}\"\n",
        options.get_database().unwrap()
    );
    Config::parse(&text, "test", std::iter::empty()).unwrap()
}

fn url_of_server() -> String {
    crate::database::server_url()
}

impl Server {
    pub async fn start(database: &Database, more: &str) -> Self {
        let mut connection = database.connection().await;
        let credential = edgekeep::edges::add(&mut connection, "edge-1").await.unwrap().to_string();
        let app = App::start(config(database, more)).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let serving = Arc::clone(&app);
        let served = tokio::spawn(async move {
            edgekeep::http::serve(serving, listener, async {
                let _ = stopped.await;
            })
            .await
        });
        let server = Self { app, address, credential, stop: Some(stop), served };
        let known = || server.app.edges.authenticate(&server.credential).is_some();
        let ready = || matches!(server.app.feed.readiness(), edgekeep::feed::Readiness::Ready { .. });
        until("it is ready, has a key and knows its edge", || server.app.keys.version() > 1 && known() && ready())
            .await;
        server
    }

    /// Sends bytes as they are and reads until the server closes.
    pub async fn raw(&self, request: &[u8]) -> Response {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        let split = all.windows(4).position(|window| window == b"\r\n\r\n").expect("a response");
        let head = String::from_utf8(all[..split].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut body = all[split + 4..].to_vec();
        if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
            body = unchunk(&body);
        }
        Response { status, head, body }
    }

    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if method != "GET" {
            request.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        self.raw(&[request.as_bytes(), body].concat()).await
    }

    pub async fn get(&self, path: &str) -> Response {
        self.send("GET", path, &[], b"").await
    }

    /// As an edge does.
    pub async fn post(&self, path: &str, json: &serde_json::Value) -> Response {
        self.post_with(&self.credential, path, "application/json", json.to_string().as_bytes()).await
    }

    pub async fn post_with(&self, credential: &str, path: &str, content_type: &str, body: &[u8]) -> Response {
        let authorization = format!("Bearer {credential}");
        self.send("POST", path, &[("Authorization", &authorization), ("Content-Type", content_type)], body).await
    }

    pub async fn keys(&self) -> KeysAnswer {
        let request = serde_json::to_value(KeysRequest { nonce: Nonce([4; 16]) }).unwrap();
        let response = self.post("/v1/keys", &request).await;
        assert_eq!(response.status, 200);
        serde_json::from_slice(&response.body).unwrap()
    }

    /// Asks it to stop; the handle resolves when it has.
    pub fn stop(mut self) -> JoinHandle<Result<(), edgekeep::http::ServeError>> {
        let _ = self.stop.take().unwrap().send(());
        self.served
    }
}

fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = bytes.windows(2).position(|window| window == b"\r\n").unwrap();
        let length = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        if length == 0 {
            return body;
        }
        body.extend_from_slice(&bytes[end + 2..end + 2 + length]);
        bytes = &bytes[end + 4 + length..];
    }
}

impl Server {
    /// Resolves when it has ended by itself.
    pub fn served(self) -> JoinHandle<Result<(), edgekeep::http::ServeError>> {
        // The sender must live: dropping it would ask for a shutdown.
        std::mem::forget(self.stop);
        self.served
    }
}
