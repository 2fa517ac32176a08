//! Every way to come with a key that is none, at every endpoint and in every place that a key may stand in: refused, and
//! nothing is accepted, told or removed.

use harness::dumps;
use harness::http::{Request, Response};
use harness::multipart::Form;
use harness::settings::{KEY, OTHER_KEY};
use harness::stack::{Plan, Stack};

const DISABLED: &str = "d15ab1edd15ab1edd15ab1edd15ab1ed";
/// The table has at least so many rows.
const ROWS_MIN: usize = 150;

/// A wrong key, as it stands in a query and as it stands in a header.
struct Wrong {
    what: &'static str,
    in_query: String,
    in_header: Option<String>,
}

fn wrong_keys() -> Vec<Wrong> {
    let plain = |what, key: &str| Wrong {
        what,
        in_query: key.replace(' ', "%20"),
        in_header: Some(key.to_owned()),
    };
    let query_only = |what, key: String| Wrong {
        what,
        in_query: key,
        in_header: None,
    };
    let (first, rest) = KEY.split_at(1);
    vec![
        plain("unknown", "00000000000000000000000000000000"),
        plain("another project's", OTHER_KEY),
        plain("disabled", DISABLED),
        plain("a prefix", &KEY[..31]),
        plain("the end", rest),
        plain("longer", &format!("{KEY}0")),
        plain("doubled", &format!("{KEY}{KEY}")),
        plain("upper case", &KEY.to_uppercase()),
        plain("hyphens", &format!("{}-{}", &KEY[..8], &KEY[8..])),
        plain("a wildcard", "*"),
        plain("quotes and more", "' OR ''='"),
        plain("null", "null"),
        query_only("a space before", format!("%20{KEY}")),
        query_only("a space behind", format!("{KEY}%20")),
        query_only("a line end behind", format!("{KEY}%0A")),
        query_only("NUL behind", format!("{KEY}%00")),
        query_only("NUL before", format!("%00{KEY}")),
        query_only("NUL and more behind", format!("{KEY}%00{OTHER_KEY}")),
        query_only(
            "encoded twice",
            format!("%25{:02x}{rest}", first.as_bytes()[0]),
        ),
        query_only("no UTF-8", format!("{KEY}%FF")),
        query_only("two different", format!("{KEY}&sentry_key={OTHER_KEY}")),
        query_only(
            "two different, the right one last",
            format!("{OTHER_KEY}&sentry_key={KEY}"),
        ),
        query_only("a list", format!("{KEY},{OTHER_KEY}")),
        query_only("a look-alike", format!("{rest}%D0%B0")),
    ]
}

/// A request that would do something with the right key: how it is made with a query of parameters.
struct Endpoint {
    what: &'static str,
    /// Whether it may come without a key.
    needs_key: bool,
    request: Box<dyn Fn(&str) -> Request>,
}

fn endpoints(id: &str, location: &str) -> Vec<Endpoint> {
    let dump = dumps::unique();
    let form = Form::minidump(&dump).finish();
    let late = Form::new().file("log", "a.log", b"x").finish();
    let envelope = b"{}\n{\"type\":\"event\"}\n{\"release\":\"a@1\"}\n".to_vec();
    let event = format!("/api/1/events/{id}/");
    let attachments = format!("{event}attachments/");
    let location = location.to_owned();
    let tus = |method: &'static str, needs_key: bool, path: String, body: &'static [u8]| Endpoint {
        what: method,
        needs_key,
        request: Box::new(move |query| {
            let mark = if path.contains('?') { '&' } else { '?' };
            Request::of(method, format!("{path}{mark}{query}"), body)
                .header("Tus-Resumable", "1.0.0")
                .header("Upload-Length", "3")
                .header("Upload-Offset", "0")
        }),
    };
    let post = |what, path: String, kind: String, body: Vec<u8>| Endpoint {
        what,
        needs_key: true,
        request: Box::new(move |query| {
            Request::post(format!("{path}?{query}"), body.clone()).header("Content-Type", &kind)
        }),
    };
    vec![
        post(
            "minidump",
            "/api/1/minidump/".into(),
            Form::content_type(),
            form.clone(),
        ),
        post(
            "raw minidump",
            "/api/1/minidump/".into(),
            "application/octet-stream".into(),
            dump,
        ),
        post(
            "envelope",
            "/api/1/envelope/".into(),
            "application/x-sentry-envelope".into(),
            envelope,
        ),
        post("late files", attachments, Form::content_type(), late),
        Endpoint {
            what: "an event",
            needs_key: true,
            request: Box::new(move |query| Request::get(format!("{event}?{query}"))),
        },
        tus("POST", true, "/api/1/upload/".into(), b""),
        tus("PATCH", false, location.clone(), b"abc"),
        tus("HEAD", false, location.clone(), b""),
        tus("DELETE", false, location, b""),
    ]
}

#[test]
fn a_wrong_key_is_refused_in_every_place_at_every_endpoint() {
    let keys = format!("keys = [{KEY:?}, {{ key = {DISABLED:?}, disabled = true }}]");
    let stack = Plan::standalone().project(&keys).start();
    let id = stack.upload(&dumps::unique());
    stack.report(&id);
    let location = begin(&stack);
    let mut rows = 0;
    let mut refused = |what: String, answer: Response| {
        rows += 1;
        assert!(
            [401, 403].contains(&answer.status),
            "{what}: {} {}",
            answer.status,
            answer.text()
        );
        assert!(!answer.text().contains(KEY), "{what}: {}", answer.text());
    };
    for endpoint in endpoints(&id, &location) {
        let send = |query: &str, header: Option<(&str, String)>| {
            let mut request = (endpoint.request)(query);
            if let Some((name, value)) = header {
                request = request.header(name, &value);
            }
            request.send(stack.listen())
        };
        let what = endpoint.what;
        for wrong in wrong_keys() {
            let query = format!("sentry_key={}", wrong.in_query);
            refused(format!("{what}, {}, query", wrong.what), send(&query, None));
            let Some(key) = wrong.in_header else { continue };
            let sentry = format!("Sentry sentry_version=7, sentry_key={key}");
            for header in ["X-Sentry-Auth", "Authorization"] {
                let answer = send("", Some((header, sentry.clone())));
                refused(format!("{what}, {}, {header}", wrong.what), answer);
            }
            // A right one beside it makes it no better.
            let right = format!("sentry_key={KEY}");
            let answer = send(&right, Some(("X-Sentry-Auth", sentry)));
            refused(
                format!("{what}, {} beside the right one", wrong.what),
                answer,
            );
        }
        if endpoint.needs_key {
            for (how, query) in [
                ("none", String::new()),
                ("an empty one", "sentry_key=".to_owned()),
                ("one under another name", format!("sentry_secret={KEY}")),
                ("one in another case", format!("Sentry_Key={KEY}")),
            ] {
                refused(format!("{what}, {how}"), send(&query, None));
            }
            let bearer = ("Authorization", format!("Bearer {KEY}"));
            refused(format!("{what}, a bearer"), send("", Some(bearer)));
        }
    }
    // What needed a key, or was to be removed, is untouched.
    let brought = tus("PATCH", &location, "abc").send(stack.listen());
    assert_eq!(brought.status, 204, "{}", brought.text());
    println!("{rows} ways with a wrong key");
    assert!(rows >= ROWS_MIN, "{rows}");
    stack.finish(1, 0);
}

#[test]
fn a_wrong_key_in_a_path_a_dsn_or_a_parameter_of_its_own_is_refused() {
    let keys = format!("keys = [{KEY:?}, {{ key = {DISABLED:?}, disabled = true }}]");
    let stack = Plan::standalone().project(&keys).start();
    let form = Form::minidump(&dumps::unique()).finish();
    let mut rows = 0;
    for wrong in wrong_keys() {
        let Some(key) = &wrong.in_header else {
            continue;
        };
        let written = key.replace(' ', "%20").replace('\'', "%27");
        let unreal = Request::post(format!("/api/1/unreal/{written}/"), "x");
        let unreal = unreal.send(stack.listen());
        // A path with percent escapes can be read in two ways, and is refused before its key is looked at.
        let expected = if written.contains('%') { 400 } else { 403 };
        assert_eq!(unreal.status, expected, "{}: {}", wrong.what, unreal.text());
        let beside = Request::post(format!("/api/1/unreal/{KEY}/?sentry_key={written}"), "x");
        assert_eq!(beside.send(stack.listen()).status, 401, "{}", wrong.what);
        let submit = |query: String| {
            Request::post(format!("/submit?{query}"), form.clone())
                .header("Content-Type", &Form::content_type())
                .send(stack.listen())
        };
        // A key alone says which project it is of: another project's is right there.
        if key != OTHER_KEY {
            assert_eq!(
                submit(format!("key={written}")).status,
                403,
                "{}",
                wrong.what
            );
        }
        let both = submit(format!("key={KEY}&sentry_key={written}"));
        assert_eq!(both.status, 401, "{}", wrong.what);
        let dsn = serde_json::json!({ "dsn": format!("http://{key}@crashes/1") });
        let envelope = format!("{dsn}\n{{\"type\":\"event\"}}\n{{}}\n");
        let envelope = Request::post("/api/1/envelope/", envelope).send(stack.listen());
        let refused = [401, 403].contains(&envelope.status);
        assert!(
            refused,
            "{}: {} {}",
            wrong.what,
            envelope.status,
            envelope.text()
        );
        rows += 5;
    }
    for dsn in [
        format!("http://{KEY}@crashes/2"),
        format!("http://{KEY}@crashes/01x"),
        format!("http://crashes/1?sentry_key={KEY}"),
        KEY.to_owned(),
        String::new(),
    ] {
        let header = serde_json::json!({ "dsn": dsn });
        let envelope = format!("{header}\n{{\"type\":\"event\"}}\n{{}}\n");
        let envelope = Request::post("/api/1/envelope/", envelope).send(stack.listen());
        assert!(
            [401, 403].contains(&envelope.status),
            "{dsn}: {}",
            envelope.text()
        );
        rows += 1;
    }
    let nowhere = Request::post("/submit", form).header("Content-Type", &Form::content_type());
    assert_eq!(nowhere.send(stack.listen()).status, 401);
    println!("{} more", rows + 1);
    stack.finish(0, 0);
}

#[test]
fn a_wrong_token_finds_no_upload() {
    let stack = Plan::standalone().start();
    let (location, other) = (begin(&stack), begin(&stack));
    let (path, token) = location.split_once("?token=").expect("a token");
    let (_, other) = other.split_once("?token=").expect("a token");
    for wrong in [
        String::new(),
        "?".to_owned(),
        "?token".to_owned(),
        "?token=".to_owned(),
        format!("?token={other}"),
        format!("?token={}", &token[1..]),
        format!("?token={}", &token[..31]),
        format!("?token={token}0"),
        format!("?token={token}%00"),
        format!("?token=%20{token}"),
        format!("?token={token}{token}"),
        format!("?Token={token}"),
        format!("?token={other}&token={token}"),
        format!("?sentry_key={KEY}"),
    ] {
        for (method, body) in [("PATCH", "abc"), ("HEAD", ""), ("DELETE", "")] {
            let answer = tus(method, &format!("{path}{wrong}"), body).send(stack.listen());
            assert_eq!(answer.status, 404, "{method} {wrong}: {}", answer.text());
        }
    }
    let brought = tus("PATCH", &location, "abc").send(stack.listen());
    assert_eq!(brought.status, 204, "{}", brought.text());
    // Whole, it is as safe.
    for wrong in [String::new(), format!("?token={other}")] {
        for method in ["HEAD", "DELETE"] {
            let answer = tus(method, &format!("{path}{wrong}"), "").send(stack.listen());
            assert_eq!(answer.status, 404, "{method} {wrong}");
        }
    }
    assert_eq!(tus("HEAD", &location, "").send(stack.listen()).status, 200);
    assert_eq!(
        tus("DELETE", &location, "").send(stack.listen()).status,
        204
    );
    assert_eq!(tus("HEAD", &location, "").send(stack.listen()).status, 404);
    stack.finish(0, 0);
}

fn begin(stack: &Stack) -> String {
    let request = tus("POST", &format!("/api/1/upload/?sentry_key={KEY}"), "");
    let answer = request.send(stack.listen());
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.header("location").expect("a location").to_owned()
}

fn tus(method: &'static str, path: &str, body: &str) -> Request {
    Request::of(method, path, body)
        .header("Tus-Resumable", "1.0.0")
        .header("Upload-Length", "3")
        .header("Upload-Offset", "0")
}
