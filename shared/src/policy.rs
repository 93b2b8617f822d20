//! Route policy: what a path and method ask for. One documented rule resolves every ambiguity.
//!
//! A policy is JSON:
//!
//! ```json
//! {"routes": [
//!   {"path": "/", "access": "public"},
//!   {"path": "/assets/**", "methods": ["GET"], "access": "public"},
//!   {"path": "/account/**", "access": "session", "max_staleness_ms": 1000},
//!   {"path": "/admin/**", "access": {"roles": ["admin"]}, "max_staleness_ms": 0, "max_auth_age_s": 900}
//! ]}
//! ```
//!
//! - A pattern is a list of segments: literal text, `*` (exactly one segment), or a last `**` (any number, none included).
//! - **The most specific pattern wins**: segments are compared from the left, literal before `*` before `**`. Order in the
//!   file never counts. The same pattern twice is allowed only with disjoint methods.
//! - A trailing slash never counts: `/admin` and `/admin/` are one path.
//! - HEAD counts as GET. A method that the winning pattern does not list is denied (405). Without `methods` all of
//!   GET, POST, PUT, PATCH and DELETE are allowed.
//! - A path that no pattern matches needs a session.

use serde::Deserialize;

use crate::token::is_role;

/// The most routes in a policy.
pub const MAX_ROUTES: usize = 512;

/// Who may pass.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Everybody; the identity is passed on where it is known without asking.
    Public,
    /// Everybody with a session.
    Session,
    /// Everybody with a session and at least one of these roles.
    Roles(Vec<String>),
}

/// What a route asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutePolicy {
    /// Who may pass.
    pub access: Access,
    /// Bound of G2 for this route, in milliseconds: 0 is strict, `None` the deployment's bound, which it can only shorten.
    pub max_staleness_ms: Option<u32>,
    /// How long ago the password may have been checked, in seconds.
    pub max_auth_age_s: Option<u32>,
}

impl RoutePolicy {
    /// What an unmatched path asks for.
    pub const SESSION: Self = Self { access: Access::Session, max_staleness_ms: None, max_auth_age_s: None };

    /// Every request asks the coordinator (G3).
    #[must_use]
    pub fn is_strict(&self) -> bool {
        self.max_staleness_ms == Some(0)
    }
}

/// Declared most specific first: the derived order of patterns is the rule. (Of two literals it takes the smaller, but such
/// patterns share no path. A pattern that ends goes before one that goes on with `**`: it fits exactly one depth.)
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Literal(String),
    Any,
    Rest,
}

#[derive(Clone, Debug)]
struct Route {
    pattern: Vec<Segment>,
    /// Upper-case; empty means the default methods.
    methods: Vec<String>,
    policy: RoutePolicy,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyFile {
    routes: Vec<RouteFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteFile {
    path: String,
    access: Access,
    #[serde(default)]
    methods: Option<Vec<String>>,
    #[serde(default)]
    max_staleness_ms: Option<u32>,
    #[serde(default)]
    max_auth_age_s: Option<u32>,
}

/// A compiled policy. The default one asks for a session everywhere.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Most specific first.
    routes: Vec<Route>,
}

/// Why a policy is refused; names the route.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("route policy: {0}")]
pub struct PolicyError(pub String);

/// What a path and method come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matched<'a> {
    /// This policy applies.
    Route(&'a RoutePolicy),
    /// The path is known and the method is not listed for it.
    MethodNotAllowed,
}

const DEFAULT_METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let file = PolicyFile::deserialize(deserializer)?;
        Self::compile(file).map_err(serde::de::Error::custom)
    }
}

impl Policy {
    fn compile(file: PolicyFile) -> Result<Self, PolicyError> {
        if file.routes.len() > MAX_ROUTES {
            return Err(PolicyError(format!("more than {MAX_ROUTES} routes")));
        }
        let mut routes = Vec::with_capacity(file.routes.len());
        for route in file.routes {
            routes.push(Route::compile(route)?);
        }
        routes.sort_by(|a, b| a.pattern.cmp(&b.pattern));
        for (at, route) in routes.iter().enumerate() {
            let mut same = routes[at + 1..].iter().take_while(|other| route.pattern == other.pattern);
            if same.any(|other| Self::overlap(route, other)) {
                return Err(PolicyError(format!("`{}` stands twice for the same method", shown(&route.pattern))));
            }
        }
        Ok(Self { routes })
    }

    fn overlap(a: &Route, b: &Route) -> bool {
        DEFAULT_METHODS.iter().copied().chain(a.methods.iter().map(String::as_str)).any(|m| a.allows(m) && b.allows(m))
    }

    /// Finds what a decoded path (see [`crate::path::check`]) and a method ask for.
    #[must_use]
    pub fn find(&self, decoded_path: &str, method: &str) -> Matched<'_> {
        let method = if method == "HEAD" { "GET" } else { method };
        let mut winner: Option<&Route> = None;
        for route in self.routes.iter().filter(|route| matches_path(&route.pattern, decoded_path)) {
            if winner.is_some_and(|winner| winner.pattern != route.pattern) {
                break;
            }
            if route.allows(method) {
                return Matched::Route(&route.policy);
            }
            winner = Some(route);
        }
        match winner {
            Some(_) => Matched::MethodNotAllowed,
            None if DEFAULT_METHODS.contains(&method) => Matched::Route(&RoutePolicy::SESSION),
            None => Matched::MethodNotAllowed,
        }
    }

    /// The methods that a path allows, for the `Allow` header of a 405.
    #[must_use]
    pub fn allowed(&self, decoded_path: &str) -> Vec<&'static str> {
        let methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
        methods.into_iter().filter(|method| matches!(self.find(decoded_path, method), Matched::Route(_))).collect()
    }

    /// The smallest bound above 0 that any route asks for: an edge holds its polls no longer than a quarter of it.
    #[must_use]
    pub fn smallest_staleness_ms(&self) -> Option<u32> {
        self.routes.iter().filter_map(|route| route.policy.max_staleness_ms).filter(|ms| *ms > 0).min()
    }
}

impl Route {
    fn compile(route: RouteFile) -> Result<Self, PolicyError> {
        let error = |what: &str| PolicyError(format!("`{}`: {what}", route.path));
        let decoded = crate::path::check(&route.path).map_err(|problem| error(&problem.to_string()))?;
        let mut pattern = Vec::new();
        let mut segments = segments(&decoded).peekable();
        while let Some(segment) = segments.next() {
            pattern.push(match segment {
                "*" => Segment::Any,
                "**" if segments.peek().is_none() => Segment::Rest,
                "**" => return Err(error("`**` must be the last segment")),
                literal if literal.contains('*') => return Err(error("`*` must stand alone in its segment")),
                literal => Segment::Literal(literal.to_owned()),
            });
        }
        let methods = route.methods.unwrap_or_default();
        let known = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
        if let Some(other) = methods.iter().find(|method| !known.contains(&method.as_str())) {
            return Err(error(&format!("`{other}` is not one of {} (HEAD goes with GET)", known.join(", "))));
        }
        if let Access::Roles(roles) = &route.access
            && (roles.is_empty() || !roles.iter().all(|role| is_role(role)))
        {
            return Err(error("`roles` needs one or more valid role names"));
        }
        if route.access == Access::Public && (route.max_staleness_ms.is_some() || route.max_auth_age_s.is_some()) {
            return Err(error("a public route takes neither `max_staleness_ms` nor `max_auth_age_s`"));
        }
        let policy = RoutePolicy {
            access: route.access,
            max_staleness_ms: route.max_staleness_ms,
            max_auth_age_s: route.max_auth_age_s,
        };
        Ok(Self { pattern, methods, policy })
    }

    fn allows(&self, method: &str) -> bool {
        if self.methods.is_empty() {
            DEFAULT_METHODS.contains(&method)
        } else {
            self.methods.iter().any(|listed| listed == method)
        }
    }
}

/// The segments of a path; a trailing slash does not count.
fn segments(decoded_path: &str) -> impl Iterator<Item = &str> {
    decoded_path.split('/').filter(|segment| !segment.is_empty())
}

fn matches_path(pattern: &[Segment], decoded_path: &str) -> bool {
    let mut path = segments(decoded_path);
    for segment in pattern {
        match segment {
            Segment::Rest => return true,
            Segment::Any if path.next().is_some() => {}
            Segment::Literal(literal) if path.next() == Some(literal) => {}
            Segment::Any | Segment::Literal(_) => return false,
        }
    }
    path.next().is_none()
}

fn shown(pattern: &[Segment]) -> String {
    let mut text = String::new();
    for segment in pattern {
        text.push('/');
        text.push_str(match segment {
            Segment::Literal(literal) => literal,
            Segment::Any => "*",
            Segment::Rest => "**",
        });
    }
    if text.is_empty() { "/".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(json: &str) -> Policy {
        serde_json::from_str(json).expect("a policy")
    }

    fn access<'a>(policy: &'a Policy, path: &str, method: &str) -> Option<&'a Access> {
        match policy.find(path, method) {
            Matched::Route(route) => Some(&route.access),
            Matched::MethodNotAllowed => None,
        }
    }

    #[test]
    fn the_most_specific_pattern_wins_whatever_the_order() {
        let policy = policy(
            r#"{"routes":[{"path":"/**","access":"public"},{"path":"/a/*","access":"session"},{"path":"/a/**","access":"public"},
                {"path":"/a/b","access":{"roles":["x"]}},{"path":"/a","access":"session"}]}"#,
        );
        assert_eq!(access(&policy, "/", "GET"), Some(&Access::Public));
        assert_eq!(access(&policy, "/z/y", "GET"), Some(&Access::Public));
        assert_eq!(access(&policy, "/a", "GET"), Some(&Access::Session));
        assert_eq!(access(&policy, "/a/", "GET"), Some(&Access::Session));
        assert_eq!(access(&policy, "/a/c", "GET"), Some(&Access::Session));
        assert_eq!(access(&policy, "/a/b", "GET"), Some(&Access::Roles(vec!["x".into()])));
        assert_eq!(access(&policy, "/a/b/", "HEAD"), Some(&Access::Roles(vec!["x".into()])));
        assert_eq!(access(&policy, "/a/b/c", "GET"), Some(&Access::Public));
    }

    #[test]
    fn of_two_patterns_that_fit_the_first_segment_that_differs_decides() {
        // Most specific first at every place; "" is the end of the pattern.
        let rank = |segment: Option<&str>| match segment.unwrap_or("") {
            "" => 0,
            "*" => 2,
            "**" => 3,
            _ => 1,
        };
        let mut patterns = vec!["/**".to_owned()];
        for first in ["a", "b", "*"] {
            patterns.push(format!("/{first}"));
            patterns.extend(["a", "b", "*", "**"].map(|second| format!("/{first}/{second}")));
        }
        for (one, other) in patterns.iter().flat_map(|one| patterns.iter().map(move |other| (one, other))) {
            let order = (1..4).map(|at| rank(one.split('/').nth(at)).cmp(&rank(other.split('/').nth(at))));
            let wins = order.fold(core::cmp::Ordering::Equal, core::cmp::Ordering::then).is_lt();
            let both = policy(&format!(
                r#"{{"routes":[{{"path":"{other}","access":"public","methods":["GET"]}},
                    {{"path":"{one}","access":"session","methods":["PUT"]}}]}}"#
            ));
            let single = |path: &str| policy(&format!(r#"{{"routes":[{{"path":"{path}","access":"public"}}]}}"#));
            let (fits_one, fits_other) = (single(one), single(other));
            let fits = |policy: &Policy, path: &str| access(policy, path, "GET") == Some(&Access::Public);
            for path in ["/", "/a", "/b", "/c", "/a/a", "/a/b", "/b/a", "/a/c", "/c/a", "/c/c", "/a/a/a", "/c/c/c"] {
                if wins && fits(&fits_one, path) && fits(&fits_other, path) {
                    assert_eq!(access(&both, path, "PUT"), Some(&Access::Session), "{path}: {one} before {other}");
                    assert_eq!(access(&both, path, "GET"), None, "{path}: {one} before {other}");
                }
            }
        }
    }

    #[test]
    fn methods_are_a_list_and_unmatched_paths_need_a_session() {
        let policy = policy(
            r#"{"routes":[{"path":"/f","methods":["GET"],"access":"public"},{"path":"/f","methods":["POST"],"access":"session"}]}"#,
        );
        assert_eq!(access(&policy, "/f", "HEAD"), Some(&Access::Public));
        assert_eq!(access(&policy, "/f", "POST"), Some(&Access::Session));
        assert_eq!(access(&policy, "/f", "PUT"), None);
        assert_eq!(access(&policy, "/other", "GET"), Some(&Access::Session));
        assert_eq!(access(&policy, "/other", "TRACE"), None);
        assert_eq!(policy.allowed("/f"), ["GET", "HEAD", "POST"]);
        assert_eq!(access(&Policy::default(), "/", "GET"), Some(&Access::Session));
    }

    #[test]
    fn a_policy_has_so_many_routes_and_no_more() {
        let routes = |count| {
            let routes: Vec<_> = (0..count).map(|n| format!(r#"{{"path":"/{n}","access":"public"}}"#)).collect();
            serde_json::from_str::<Policy>(&format!(r#"{{"routes":[{}]}}"#, routes.join(",")))
        };
        assert!(routes(MAX_ROUTES).is_ok() && routes(MAX_ROUTES + 1).is_err());
    }

    #[test]
    fn polls_go_by_the_smallest_bound_above_zero() {
        let policy = policy(
            r#"{"routes":[{"path":"/a","access":"session","max_staleness_ms":0},{"path":"/b","access":"session"},
                {"path":"/c","access":"session","max_staleness_ms":900},{"path":"/d","access":"session","max_staleness_ms":800}]}"#,
        );
        assert_eq!(policy.smallest_staleness_ms(), Some(800));
        assert_eq!(Policy::default().smallest_staleness_ms(), None);
    }

    #[test]
    fn mistakes_are_named() {
        for (json, part) in [
            (r#"{"routes":[{"path":"/a/**/b","access":"public"}]}"#, "last segment"),
            (r#"{"routes":[{"path":"/a*","access":"public"}]}"#, "stand alone"),
            (r#"{"routes":[{"path":"a","access":"public"}]}"#, "not allowed"),
            (r#"{"routes":[{"path":"/a","access":{"roles":[]}}]}"#, "role"),
            (r#"{"routes":[{"path":"/a","methods":["get"],"access":"public"}]}"#, "`get`"),
            (
                r#"{"routes":[{"path":"/a","access":"public"},{"path":"/a/","methods":["GET"],"access":"session"}]}"#,
                "`/a` stands twice",
            ),
            (
                r#"{"routes":[{"path":"/a","methods":["GET"],"access":"public"},{"path":"/a","methods":["POST"],"access":"session"},
                    {"path":"/a","methods":["GET"],"access":"session"}]}"#,
                "twice",
            ),
            (r#"{"routes":[{"path":"/a","access":"public","max_staleness_ms":0}]}"#, "neither"),
            (r#"{"routes":[{"path":"/a","acess":"public"}]}"#, "acess"),
        ] {
            let error = serde_json::from_str::<Policy>(json).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
