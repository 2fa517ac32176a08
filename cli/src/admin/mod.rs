//! The operators' listener: health, readiness, metrics, and a page that shows them.

mod admit;
mod connections;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::middleware;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use shared::config::AdminConfig;
use shared::metrics::{self, Metrics};
use shared::readiness::PartSnapshot;
use shared::services::Services;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::output::counted;

/// Serves operators on `listener` until `shutdown`. With a token, who has it may ask from anywhere; without one only this
/// machine may.
pub(crate) async fn serve(
    listener: TcpListener,
    config: AdminConfig,
    services: Services,
    shutdown: CancellationToken,
) {
    connections::serve(listener, app(config, services), shutdown).await;
}

fn app(config: AdminConfig, services: Services) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(show_metrics))
        .layer(middleware::from_fn_with_state(config, admit::admit))
        .layer(middleware::map_response(guard))
        .with_state(services)
}

/// What no answer to an operator lacks: browsers guess no type, keep nothing and show it in no other page.
async fn guard(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn readyz(State(services): State<Services>) -> Response {
    let snapshot = services.readiness.snapshot();
    let status = if snapshot.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(snapshot)).into_response()
}

async fn show_metrics(State(services): State<Services>) -> Response {
    services
        .metrics
        .show_readiness(&services.readiness.snapshot());
    (
        [(CONTENT_TYPE, metrics::CONTENT_TYPE)],
        services.metrics.encode(),
    )
        .into_response()
}

async fn page(State(services): State<Services>) -> Html<String> {
    let snapshot = services.readiness.snapshot();
    let title = match (snapshot.ready, snapshot.degraded) {
        (true, false) => "ready",
        (true, true) => "ready, not in all parts",
        (false, _) => "not ready",
    };
    let parts: String = snapshot.parts.iter().map(part_row).collect();
    let ledger = services.metrics.ledger.get().map_or_else(
        || "<p>not read yet</p>".to_owned(),
        |ledger| {
            format!(
                "<p>{} accepted = {} processed + {} failed + {} in flight</p>",
                ledger.accepted,
                ledger.processed,
                ledger.failed(),
                ledger.in_flight()
            )
        },
    );
    let spool = spool_lines(&services.metrics);
    Html(format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Crashferry: {title}</title>\
         <h1>Crashferry: {title}</h1>\
         <table><tr><th>part<th>state<th>since<th>why{parts}</table>\
         <h2>Ledger</h2>{ledger}{spool}\
         <p><a href=\"readyz\">readyz</a> <a href=\"healthz\">healthz</a> <a href=\"metrics\">metrics</a></p></html>\n"
    ))
}

/// What waits in the spool, for a relay.
fn spool_lines(metrics: &Metrics) -> String {
    if metrics.spool_max_bytes.get() == 0 {
        return String::new();
    }
    const MIB: i64 = 1 << 20;
    format!(
        "<h2>Spool</h2><p>{}, the oldest for {:.0} s; {} of {} MiB are taken; \
         {} since the start; {} in quarantine</p>",
        counted(metrics.spool_files.get(), "upload waits", "uploads wait"),
        metrics.spool_oldest_seconds.get(),
        metrics.spool_bytes.get() / MIB,
        metrics.spool_max_bytes.get() / MIB,
        counted(
            metrics.drained_uploads.get(),
            "upload was drained",
            "uploads were drained"
        ),
        counted(
            metrics.spool_quarantined_files.get(),
            "damaged file is",
            "damaged files are"
        ),
    )
}

fn part_row(part: &PartSnapshot) -> String {
    let need = if part.required { "" } else { " (informative)" };
    format!(
        "<tr><td>{}{need}<td>{}<td>{}<td>{}",
        part.part.as_str(),
        part.state.replace('_', " "),
        part.since,
        escape(part.why.as_deref().unwrap_or_default())
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use axum::extract::connect_info::MockConnectInfo;
    use shared::config::{self, Role};
    use shared::readiness::{Need, Part, PartState};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    const HERE: [u8; 4] = [127, 0, 0, 1];
    const ELSEWHERE: [u8; 4] = [192, 0, 2, 1];

    struct Admin {
        services: Services,
        config: AdminConfig,
        _dir: tempfile::TempDir,
    }

    impl Admin {
        async fn new(token: Option<&str>) -> Self {
            let dir = tempfile::tempdir().expect("a directory");
            let data = dir.path().display().to_string();
            let mut environment = vec![("CRASHFERRY__DATA__DIR".to_owned(), data)];
            environment
                .extend(token.map(|token| ("CRASHFERRY__ADMIN__TOKEN".into(), token.into())));
            let config = config::load(None, environment).expect("a configuration");
            let services = Services::open(&config, Role::Standalone).await;
            Self {
                services: services.expect("services"),
                config: config.admin,
                _dir: dir,
            }
        }

        /// The status and body that a peer at `address` gets.
        async fn get(&self, path: &str, address: [u8; 4], header: &str) -> (u16, String) {
            let header = format!("Host: localhost:3001\r\n{header}");
            self.ask(path, address, &header).await
        }

        /// The same with these headers alone.
        async fn ask(&self, path: &str, address: [u8; 4], header: &str) -> (u16, String) {
            let peer = SocketAddr::from((Ipv4Addr::from(address), 1000));
            let app = app(self.config.clone(), self.services.clone()).layer(MockConnectInfo(peer));
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
                .await
                .expect("a port");
            let address = listener.local_addr().expect("an address");
            let server = axum::serve(listener, app).into_future();
            let ask = async {
                let mut stream = TcpStream::connect(address).await.expect("connects");
                let request = format!("GET {path} HTTP/1.0\r\n{header}\r\n");
                stream.write_all(request.as_bytes()).await.expect("asks");
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.expect("answers");
                answer
            };
            let answer = tokio::select! {
                answer = ask => answer,
                _ = server => panic!("the server ended"),
            };
            let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
            let status = head[9..12].parse().expect("a status");
            (status, body.to_owned())
        }
    }

    #[tokio::test]
    async fn readiness_decides_the_status_and_names_the_part() {
        let admin = Admin::new(None).await;
        let readiness = &admin.services.readiness;
        readiness.register(Part::Broker, Need::Required);
        readiness.set(Part::Broker, PartState::not_ready("no <broker> answers"));
        let (status, body) = admin.get("/readyz", HERE, "").await;
        assert_eq!(status, 503);
        assert!(body.contains("no <broker> answers"), "{body}");
        let (_, page) = admin.get("/", HERE, "").await;
        assert!(page.contains("no &lt;broker> answers"), "{page}");
        assert!(
            page.contains("0 accepted = 0 processed + 0 failed + 0 in flight"),
            "{page}"
        );
        readiness.set(Part::Broker, PartState::Ready);
        assert_eq!(admin.get("/readyz", HERE, "").await.0, 200);
        assert_eq!(admin.get("/healthz", HERE, "").await, (200, "ok".into()));
        let (_, metrics) = admin.get("/metrics", HERE, "").await;
        assert!(
            metrics.contains("crashferry_ledger_events{state=\"in_flight\"} 0"),
            "{metrics}"
        );
        assert!(metrics.ends_with("# EOF\n"));
    }

    #[tokio::test]
    async fn without_a_token_only_this_machine_is_answered() {
        let admin = Admin::new(None).await;
        for path in ["/", "/healthz", "/readyz", "/metrics", "/nowhere"] {
            let (status, body) = admin
                .get(path, ELSEWHERE, "Authorization: Bearer x\r\n")
                .await;
            assert_eq!(status, 403, "{path}");
            assert!(body.contains("set admin.token"), "{body}");
        }
    }

    #[tokio::test]
    async fn with_a_token_who_has_it_is_answered() {
        let admin = Admin::new(Some("open sesame")).await;
        for given in ["Bearer open sesame", "bearer open sesame "] {
            let header = format!("Authorization: {given}\r\n");
            assert_eq!(
                admin.get("/healthz", ELSEWHERE, &header).await.0,
                200,
                "{given}"
            );
        }
        for given in [
            "",
            "Bearer ",
            "Bearer open",
            "Basic open sesame",
            "open sesame",
        ] {
            let header = format!("Authorization: {given}\r\n");
            assert_eq!(
                admin.get("/healthz", ELSEWHERE, &header).await.0,
                401,
                "{given}"
            );
        }
        // A proxy on this machine is no operator.
        assert_eq!(admin.get("/healthz", HERE, "").await.0, 401);
    }

    #[tokio::test]
    async fn a_request_that_was_sent_to_another_name_is_refused() {
        let mut admin = Admin::new(Some("open sesame")).await;
        admin.config.hosts = vec!["relay".into()];
        let token = "Authorization: Bearer open sesame\r\n";
        for (path, hosts, expected) in [
            ("/healthz", "Host: relay:3001\r\n", 200),
            ("/healthz", "Host: 127.0.0.1:3001\r\n", 200),
            ("http://relay/healthz", "Host: relay\r\n", 200),
            ("/healthz", "Host: evil.example\r\n", 421),
            ("/healthz", "Host: 10.0.0.1:3001\r\n", 421),
            ("/healthz", "", 421),
            ("/healthz", "Host: \r\n", 421),
            ("/healthz", "Host: relay\r\nHost: evil.example\r\n", 421),
            ("/healthz", "Host: relay\r\nHost: relay\r\n", 421),
            ("http://evil.example/healthz", "Host: relay\r\n", 421),
        ] {
            for address in [HERE, ELSEWHERE] {
                let headers = format!("{hosts}{token}");
                let (status, _) = admin.ask(path, address, &headers).await;
                assert_eq!(status, expected, "{path} {hosts:?}");
            }
        }
    }
}
