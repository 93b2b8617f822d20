//! The route table: the one list of what this service answers. `guard` dispatches by it, and a test holds the
//! OpenAPI description against it.

/// What a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// A login.
    Login,
    /// Sign out sessions by their proofs.
    Logout,
    /// End every session of a user who knows the password.
    LogoutEverywhere,
    /// Change the password.
    Password,
    /// Strict check or renewal.
    Check,
    /// List the sessions of a user.
    Sessions,
    /// End another session of the same user.
    EndSession,
    /// The key set.
    Keys,
    /// A poll of the feed.
    Feed,
    /// Whose credential it is: a relay asks so for an edge.
    Follower,
    /// This process runs.
    Health,
    /// It can answer polls.
    Ready,
    /// Counters.
    Metrics,
}

/// Who may knock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// An edge with a credential of its own that counts.
    Edge,
    /// The same, or a relay, or an edge at a relay: a feed credential is enough.
    Follower,
    /// Whoever reaches the listener: nothing here tells anything about a user.
    Anyone,
}

/// One route.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// The exact path; also the label in metrics.
    pub path: &'static str,
    /// Who may.
    pub caller: Caller,
    /// What happens.
    pub door: Door,
}

const fn edge(path: &'static str, door: Door) -> Route {
    Route { method: "POST", path, caller: Caller::Edge, door }
}

const fn anyone(path: &'static str, door: Door) -> Route {
    Route { method: "GET", path, caller: Caller::Anyone, door }
}

const fn follower(method: &'static str, path: &'static str, door: Door) -> Route {
    Route { method, path, caller: Caller::Follower, door }
}

/// All routes.
pub const ROUTES: [Route; 13] = [
    edge("/v1/login", Door::Login),
    edge("/v1/logout", Door::Logout),
    edge("/v1/logout-everywhere", Door::LogoutEverywhere),
    edge("/v1/password", Door::Password),
    edge("/v1/check", Door::Check),
    edge("/v1/sessions", Door::Sessions),
    edge("/v1/sessions/end", Door::EndSession),
    edge("/v1/keys", Door::Keys),
    follower("POST", "/v1/feed", Door::Feed),
    follower("GET", "/v1/feed/follower", Door::Follower),
    anyone("/healthz", Door::Health),
    anyone("/readyz", Door::Ready),
    anyone("/metrics", Door::Metrics),
];

/// The route with this path.
#[must_use]
pub fn by_path(path: &str) -> Option<&'static Route> {
    ROUTES.iter().find(|route| route.path == path)
}
