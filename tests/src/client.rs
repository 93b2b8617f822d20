//! A client with a cookie jar of a browser's habits: one jar for all ports of a host, newest cookies last, and a jar
//! that can be copied, as a thief would. What comes from under the prefix is held against the public description.

use std::net::SocketAddr;

use serde_json::json;
use xtask::state::User;

use crate::http::{self, Request, Response};
use crate::{contract, random_hex};

/// Cookies in the order of their creation, as browsers send them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Jar(Vec<(String, String)>);

impl Jar {
    /// The `Cookie` header; nothing without cookies.
    #[must_use]
    pub fn header(&self) -> Option<String> {
        let pairs: Vec<String> = self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }

    /// Takes what an answer sets and clears.
    pub fn take(&mut self, response: &Response) {
        for cookie in response.all("Set-Cookie") {
            self.set(cookie);
        }
    }

    /// Takes one `Set-Cookie`. A cookie that is set again keeps its place (RFC 6265bis 5.7: its creation time).
    pub fn set(&mut self, set_cookie: &str) {
        let mut parts = set_cookie.split(';').map(str::trim);
        let (name, value) = parts.next().and_then(|pair| pair.split_once('=')).expect("a name and a value");
        let gone = parts.any(|part| part.eq_ignore_ascii_case("Max-Age=0"));
        match self.0.iter().position(|(other, _)| other == name) {
            Some(at) if gone => drop(self.0.remove(at)),
            Some(at) => self.0[at].1 = value.to_owned(),
            None if gone => {}
            None => self.0.push((name.to_owned(), value.to_owned())),
        }
    }

    /// Names of our session cookies.
    #[must_use]
    pub fn session_names(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).filter(|name| name.starts_with("__Host-edgekeep-")).collect()
    }
}

/// A browser, or a program with cookies.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// Its cookies.
    pub jar: Jar,
}

impl Client {
    /// One without cookies.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Someone else with a copy of the cookies.
    #[must_use]
    pub fn steal(&self) -> Self {
        self.clone()
    }

    /// The request with the jar's cookies.
    #[must_use]
    pub fn with_cookies(&self, request: Request) -> Request {
        match self.jar.header() {
            Some(cookies) => request.header("Cookie", &cookies),
            None => request,
        }
    }

    /// Sends with cookies and keeps what is set. Redirects are not followed.
    ///
    /// # Errors
    /// If the connection fails: the answer is lost, whatever became of the request.
    ///
    /// # Panics
    /// If the answer is not one that `docs/openapi/public.json` lists (see [`contract`]).
    #[track_caller]
    pub fn try_send(&mut self, edge: SocketAddr, request: Request) -> std::io::Result<Response> {
        let response = http::send(edge, &self.with_cookies(request.clone()))?;
        contract::check(&request, &response);
        self.jar.take(&response);
        Ok(response)
    }

    /// As [`Client::try_send`].
    ///
    /// # Panics
    /// If the connection fails.
    #[track_caller]
    pub fn send(&mut self, edge: SocketAddr, request: Request) -> Response {
        let shown = format!("{} {}", request.method, request.target);
        self.try_send(edge, request).unwrap_or_else(|error| panic!("no answer to {shown}: {error}"))
    }

    /// A program's `GET`.
    #[track_caller]
    pub fn get(&mut self, edge: SocketAddr, target: &str) -> Response {
        self.send(edge, Request::get(target))
    }

    /// Opens a page as a browser does and follows redirects within the site.
    #[track_caller]
    pub fn browse(&mut self, edge: SocketAddr, request: Request) -> Response {
        let mut response = self.send(edge, request);
        for _ in 0..5 {
            if !matches!(response.status, 302 | 303) {
                return response;
            }
            let target = response.header("Location").expect("a redirect says where to").to_owned();
            response = self.send(edge, Request::navigate(&target).only_header("Sec-Fetch-Site", "same-origin"));
        }
        panic!("redirects without end");
    }

    /// `GET /auth/session`: status, and the reason where there is no session.
    #[track_caller]
    pub fn session(&mut self, edge: SocketAddr) -> (u16, Option<String>) {
        let response = self.get(edge, "/auth/session");
        (response.status, response.reason())
    }

    /// A JSON login under this idempotency key.
    #[track_caller]
    pub fn login_with_key(&mut self, edge: SocketAddr, user: &User, key: &str) -> Response {
        self.send(edge, login_request(user, key))
    }

    /// A JSON login.
    #[track_caller]
    pub fn login(&mut self, edge: SocketAddr, user: &User) -> Response {
        self.login_with_key(edge, user, &random_hex(16))
    }

    /// A logout by a program.
    #[track_caller]
    pub fn logout(&mut self, edge: SocketAddr) -> Response {
        self.send(edge, logout_request())
    }
}

/// A JSON login under this idempotency key.
#[must_use]
pub fn login_request(user: &User, key: &str) -> Request {
    Request::json("/auth/login", &json!({"username": user.name, "password": user.password})).key(key)
}

/// A logout by a program.
#[must_use]
pub fn logout_request() -> Request {
    Request::json("/auth/logout", &json!({})).key(&random_hex(16))
}

/// The same user with a wrong password, another one each time.
#[must_use]
pub fn wrong(user: &User) -> User {
    User { password: format!("wrong-{}", random_hex(12)), ..user.clone() }
}
