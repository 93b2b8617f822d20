//! Routes, the path rules, and where a login may lead back to.

use edgekeep_tests::client::Client;
use edgekeep_tests::http::Request;
use edgekeep_tests::shape::{assert_no_session, assert_problem};

use crate::world;

#[test]
fn public_session_role_and_strict_routes() {
    let world = world();
    let admin = world.user_with_role("boss", "admin");
    let (mut nobody, (_, mut someone), mut admin) = (Client::new(), world.someone("plain"), world.login(1, &admin));
    for edge in world.edges() {
        assert_eq!(nobody.get(*edge, "/").status, 200);
        assert_eq!(nobody.get(*edge, "/assets/style.css").status, 200);
        for path in ["/dashboard", "/admin", "/admin/deep/down", "/strict", "/recent", "/echo", "/not/listed"] {
            assert_no_session(&nobody.get(*edge, path), "none");
        }
        for path in ["/dashboard", "/dashboard/", "/strict", "/recent", "/echo/x"] {
            assert_eq!(someone.get(*edge, path).status, 200, "{path}");
        }
        assert_problem(&someone.get(*edge, "/admin"), 403, "forbidden");
        assert_problem(&someone.get(*edge, "/admin/deep/down"), 403, "forbidden");
        assert_eq!(admin.get(*edge, "/admin").status, 200);
        assert_eq!(someone.get(*edge, "/not/listed").status, 404, "the site's own word");
    }
}

#[test]
fn methods_that_are_not_listed_are_denied() {
    let world = world();
    let (_, mut client) = world.someone("verbs");
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let response =
            client.send(world.edge(0), Request::new(method, "/dashboard").header("Accept", "application/json"));
        assert_problem(&response, 405, "method_not_allowed");
        assert_eq!(response.header("Allow"), Some("GET, HEAD"));
    }
    assert_eq!(client.send(world.edge(0), Request::new("HEAD", "/dashboard")).status, 200);
    let trick = Request::new("GET", "/dashboard").header("X-HTTP-Method-Override", "DELETE");
    assert_eq!(client.send(world.edge(0), trick).status, 200);
}

#[test]
fn paths_that_two_servers_could_read_differently_are_400() {
    let world = world();
    let (_, client) = world.someone("tricks");
    for path in [
        "//dashboard",
        "/assets//x",
        "/a%2fb",
        "/a%2Fb",
        "/a%5cb",
        "/%252e%252e/admin",
        "/%2561dmin",
        "/assets;/x",
        "/assets/%3b/x",
        "/%00",
        "/a%0a",
        "/%7f",
        "/%ff",
        "/%C0%AF",
        "/%zz",
        "/%",
        "/a%0d%0ab",
        "/auth/%2561ccount",
        "/auth;x/login",
        "/auth//login",
    ] {
        for mut client in [client.steal(), Client::new()] {
            assert_problem(&client.get(world.edge(0), path), 400, "invalid_request");
        }
    }
    let long = format!("/{}", "x".repeat(5_000));
    assert_problem(&client.steal().get(world.edge(0), &long), 400, "invalid_request");
}

#[test]
fn no_spelling_of_a_path_gets_around_the_gate() {
    let world = world();
    let mut nobody = Client::new();
    for path in [
        "/assets/../dashboard",
        "/assets/%2e%2e/dashboard",
        "/assets/..%2fdashboard",
        "/assets/.%2e/dashboard",
        "/./dashboard",
        "/assets/..;/dashboard",
        "/assets\\..\\dashboard",
        "/%64ashboard",
        "/dashboard/",
        "/dashboard?x=/assets/",
        "/dashboard%20",
        "/DASHBOARD",
        "/dashboard#/assets/",
        "/dashboard/%2e",
        "/auth/../dashboard",
    ] {
        let response = nobody.get(world.edge(0), path);
        assert!(matches!(response.status, 400 | 401), "{path}: {}", response.status);
    }
    // An encoded letter is the same path, for the gate and for the site.
    let (_, mut client) = world.someone("letters");
    assert_problem(&client.get(world.edge(0), "/%61dmin"), 403, "forbidden");
}

#[test]
fn a_login_leads_back_within_this_site_only() {
    let world = world();
    let mut browser = Client::new();
    let shown = |browser: &mut Client, return_to: &str| {
        let page = browser.send(world.edge(0), Request::navigate(&format!("/auth/login?return_to={return_to}")));
        page.expect(200).text()
    };
    for bad in [
        "https://evil.test/",
        "//evil.test",
        "/%5Cevil.test",
        "%2F%2Fevil.test",
        "javascript:alert(1)",
        "evil.test",
        "/%09/evil.test",
        "/..//evil.test",
        "%5C%5Cevil.test",
        "/.//evil.test",
        "https:evil.test",
    ] {
        let page = shown(&mut browser, bad);
        assert!(!page.contains("evil.test") && !page.contains("alert(1)"), "{bad}: {page}");
    }
    assert!(shown(&mut browser, "/dashboard%3Fa=1").contains("/dashboard?a=1"));
    // And where it is sent along it is checked again.
    for (return_to, location) in [
        ("//evil.test", "/"),
        ("https://evil.test", "/"),
        ("/\\evil.test", "/"),
        ("/\t/evil.test", "/"),
        ("/dashboard?x=1", "/dashboard?x=1"),
    ] {
        let user = world.user("back");
        let page = shown(&mut browser, "/");
        let at = page.find("name=\"form_key\" value=\"").unwrap();
        let form_key = page[at..].split('"').nth(3).unwrap().to_owned();
        let fields = [
            ("form_key", form_key.as_str()),
            ("username", &user.name),
            ("password", &user.password),
            ("return_to", return_to),
        ];
        let response = browser.send(world.edge(1), Request::form("/auth/login", &fields)).expect(303);
        assert_eq!(response.header("Location"), Some(location));
    }
    let (_, mut client) = world.someone("out");
    let away = client.send(world.edge(0), Request::form("/auth/logout", &[("return_to", "//evil.test")])).expect(303);
    assert!(away.header("Location").is_some_and(|to| to.starts_with("/auth/login")), "{away:?}");
}
