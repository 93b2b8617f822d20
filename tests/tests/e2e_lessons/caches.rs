//! What caches must not keep.

use edgekeep_tests::client::{Client, login_request};
use edgekeep_tests::http::{self, Request, Response};
use edgekeep_tests::{random_hex, until};

use crate::{site, world};

/// What the site says of everything: keep it, whoever asked, and here are cookies.
const KEEP_ALL: &str = "Cache-Control: public, max-age=600\r\nCDN-Cache-Control: max-age=600\r\nCloudflare-CDN-Cache-Control: max-age=600\r\n\
    Surrogate-Control: max-age=600\r\nX-Accel-Expires: 600\r\nExpires: Thu, 01 Jan 2099 00:00:00 GMT\r\nETag: \"1\"\r\nSet-Cookie: own=1; Path=/\r\n\
    Set-Cookie: __Host-edgekeep-00000000=planted; Path=/; Secure\r\nSet-Cookie: __Host-ek-form=planted; Path=/; Secure\r\n";

/// No cache, private or shared, that obeys any of the headers there are, may keep the answer.
#[track_caller]
fn assert_kept_by_nobody(response: &Response) {
    assert_eq!(response.all("Cache-Control").collect::<Vec<_>>(), ["no-store"], "{:?}", response.headers);
    for other in ["CDN-Cache-Control", "Cloudflare-CDN-Cache-Control", "Surrogate-Control", "X-Accel-Expires"] {
        assert_eq!(response.header(other), None, "{:?}", response.headers);
    }
}

/// AuthKit: an answer that set a session's cookie was kept by the CDN, and given to others.
#[test]
fn cve_2025_64762_no_cache_keeps_a_cookie_of_ours() {
    let (_, client) = world().someone("cached");
    let (site, edge) = site();
    site.answer_with(KEEP_ALL);
    let ours = |response: &Response| response.all("Set-Cookie").any(|cookie| cookie.contains("__Host-"));
    // A renewal on the way out, on a route that the site calls public.
    until("a proof is renewed", || {
        let response = client.steal().get(edge, "/dashboard").expect(200);
        assert_kept_by_nobody(&response);
        ours(&response).then_some(())
    });
    // A cookie that is cleared, on a public route.
    for target in ["/", "/assets/style.css"] {
        let junk = Request::get(target).header("Cookie", "__Host-edgekeep-00000000=x");
        let response = http::send(edge, &junk).unwrap().expect(200);
        assert!(ours(&response), "{:?}", response.headers);
        assert_kept_by_nobody(&response);
        assert_eq!(response.all("Set-Cookie").filter(|cookie| cookie.contains("planted")).count(), 0);
        assert!(response.all("Set-Cookie").any(|cookie| cookie.starts_with("own=1")), "the site's own stays");
    }
    // A site that means it well with browsers, and says the contrary to what stands in between.
    for contrary in ["CDN-Cache-Control: max-age=600", "X-Accel-Expires: 600"] {
        site.answer_with(&format!("Cache-Control: no-store\r\n{contrary}\r\n"));
        assert_kept_by_nobody(&client.steal().get(edge, "/dashboard").expect(200));
    }
    site.answer_with(KEEP_ALL);
    // Without any cookie of ours the site's word stands, less the cookies that are not its to set.
    let response = http::send(edge, &Request::get("/")).unwrap().expect(200);
    assert_eq!(response.header("Cache-Control"), Some("public, max-age=600"));
    assert!(!ours(&response), "{:?}", response.headers);
    drop(site.take());
    // Doors and refusals.
    let user = world().user("doors");
    let mut known = world().login(0, &user);
    for response in [
        Client::new().send(edge, login_request(&user, &random_hex(8))),
        Client::new().send(edge, Request::navigate("/auth/login")),
        Client::new().send(edge, Request::navigate("/dashboard")),
        Client::new().get(edge, "/dashboard"),
        Client::new().get(edge, "//"),
        known.get(edge, "/auth/session"),
        known.send(edge, Request::navigate("/auth/account")),
        known.logout(edge),
    ] {
        assert_kept_by_nobody(&response);
    }
}

/// A conditional or partial request asked for what somebody else may see.
#[test]
fn conditional_and_partial_requests_are_asked_about_like_others() {
    let (_site, edge) = site();
    for (name, value) in [
        ("If-None-Match", "\"1\""),
        ("If-None-Match", "*"),
        ("If-Modified-Since", "Thu, 01 Jan 2099 00:00:00 GMT"),
        ("Range", "bytes=0-0"),
        ("Cache-Control", "only-if-cached"),
        ("Pragma", "no-cache"),
    ] {
        assert_eq!(
            http::send(edge, &Request::get("/dashboard").header(name, value)).unwrap().status,
            401,
            "{name}: {value}"
        );
    }
}
