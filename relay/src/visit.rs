//! One request that brings an upload: what all of them have in common, from the key to the answer.

use std::sync::{Arc, OnceLock};

use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::response::Response;
use shared::id::{EventId, ProjectId};
use shared::metrics::{Endpoint, Raised};
use tokio::time::Instant;
use tracing::Span;

use crate::app::{App, Peer};
use crate::auth::KeyRefusal;
use crate::delivery::Receipt;
use crate::error::Rejection;
use crate::key_ring::KeyGrant;
use crate::publish::publish;
use crate::query;
use crate::receive::{Delivered, Format, Taken};
use crate::sdk;
use crate::seal::{Sender, Told};

/// The parameter that says which form of id the client can keep, and the short one's name.
const ID_FORM: (&str, &str) = ("id", "hex16");
/// Parameters that Crashpad adds to the address it was given, which also say who sends.
const IDENTITY_PARAMETERS: [&str; 3] = ["product", "version", "guid"];

/// A request that brings an upload.
pub(crate) struct Visit {
    app: Arc<App>,
    pub(crate) head: Parts,
    body: Body,
    begun: Instant,
    _in_flight: Raised,
}

/// What a request came to.
pub(crate) enum Arrival {
    /// An upload, which is durable, and the crash whose files it brought, if it was none itself.
    Durable(Receipt, Option<EventId>),
    /// It held nothing to keep.
    Nothing(Option<EventId>),
}

impl Visit {
    /// From here on the request counts as an upload in flight.
    pub(crate) fn begin(app: &Arc<App>, request: Request) -> Self {
        let (head, body) = request.into_parts();
        Self {
            app: Arc::clone(app),
            head,
            body,
            begun: Instant::now(),
            _in_flight: Raised::by(&app.services.metrics.uploads_in_flight, 1),
        }
    }

    /// What the key that the request's head carries allows in the project.
    pub(crate) fn check_key(&self, project: ProjectId) -> Result<KeyGrant, Rejection> {
        let Parts { uri, headers, .. } = &self.head;
        self.admit(self.app.keys.check_request(project, uri, headers)?)
    }

    /// Refuses a key whose quota is known to be used up, before anything is read.
    pub(crate) fn admit(&self, grant: KeyGrant) -> Result<KeyGrant, Rejection> {
        self.app.quotas.check_early(&grant)?;
        Ok(grant)
    }

    /// Receives the upload and makes it durable. The key's grant may become known while the body is read.
    pub(crate) async fn take(
        &mut self,
        endpoint: Endpoint,
        project_id: ProjectId,
        grant: &OnceLock<KeyGrant>,
        format: Format<'_>,
        mut told: Told,
    ) -> Result<Arrival, Rejection> {
        let Self {
            app, head, body, ..
        } = self;
        Span::current().record("project_id", project_id.get());
        let _turn = app.admission.upload().await?;
        let peer = head.extensions.get::<Peer>();
        let sender = Sender {
            event_id: if wants_short_id(head) {
                EventId::with_short_form(project_id)
            } else {
                app.delivery.fresh_event_id()
            },
            project_id,
            remote_addr: peer.map(|peer| peer.0.ip().to_canonical().to_string()),
        };
        told.sdk = sdk::name(&head.uri, &head.headers);
        told.identity = IDENTITY_PARAMETERS
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), query::value(&head.uri, name)?)))
            .collect();
        let length = app.intake.check_head(&head.headers)?;
        let draft = app.delivery.reserve(length.unwrap_or_default());
        let delivered = Delivered {
            headers: &head.headers,
            body,
            draft: draft.map_err(Rejection::Spool)?,
        };
        match app.intake.receive(sender, format, delivered, told).await? {
            Taken::Upload(upload) => {
                let grant = grant.get().cloned().ok_or(KeyRefusal::Missing)?;
                let about = upload.payload.attached_to;
                let receipt = publish(app, endpoint, grant, *upload).await?;
                Ok(Arrival::Durable(receipt, about))
            }
            Taken::Nothing(event_id) => Ok(Arrival::Nothing(event_id)),
        }
    }

    /// The id as the client wants it: hyphenated, or of 16 digits as Breakpad's servers give it.
    pub(crate) fn id_text(&self, project: ProjectId, receipt: &Receipt) -> String {
        let id = receipt.event_id();
        let short = wants_short_id(&self.head).then(|| id.short_form(project));
        short.flatten().unwrap_or_else(|| id.to_string())
    }

    /// Ends the visit: the answer, or the refusal, which is counted and logged.
    pub(crate) fn answer(self, answer: Result<Response, Rejection>) -> Response {
        self.answer_as(answer, |response| response)
    }

    /// As [`Visit::answer`], with refusals told in another way.
    pub(crate) fn answer_as(
        self,
        answer: Result<Response, Rejection>,
        told: impl FnOnce(Response) -> Response,
    ) -> Response {
        let answer = answer.unwrap_or_else(|rejection| {
            told(self.app.refuse(rejection, &self.head.headers, self.body))
        });
        let metrics = &self.app.services.metrics;
        metrics
            .upload_duration_seconds
            .observe(self.begun.elapsed().as_secs_f64());
        answer
    }
}

fn wants_short_id(head: &Parts) -> bool {
    query::value(&head.uri, ID_FORM.0).is_some_and(|form| form.eq_ignore_ascii_case(ID_FORM.1))
}
