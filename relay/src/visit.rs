//! One request that brings an upload: what all of them have in common, from the key to the answer.

use std::sync::{Arc, OnceLock};

use axum::body::Body;
use axum::extract::Request;
use axum::http::Uri;
use axum::http::request::Parts;
use axum::response::Response;
use shared::id::{EventId, ProjectId};
use shared::metrics::{Endpoint, Raised};
use tokio::time::Instant;
use tracing::Span;

use crate::app::{App, Peer};
use crate::auth::KeyRefusal;
use crate::caller::Caller;
use crate::client_address::client_address;
use crate::delivery::Receipt;
use crate::error::Rejection;
use crate::event_data::Field;
use crate::items::EnvelopeHeader;
use crate::key_ring::KeyGrant;
use crate::limits::FORM_FIELDS_MAX;
use crate::places::{Charge, Party, Permit};
use crate::publish::publish;
use crate::query;
use crate::receive::{Delivered, Format, OpenBody, Taken};
use crate::refusals::Claimed;
use crate::refused_body;
use crate::sdk;
use crate::seal::{Sender, Told};

/// The parameter that says which form of id the client can keep, and the short one's name.
const ID_FORM: (&str, &str) = ("id", "hex16");
/// Parameters that are about the request and not about its crash.
const REQUEST_PARAMETERS: [&str; 7] = [
    ID_FORM.0,
    "key",
    "sentry_key",
    "sentry_secret",
    "sentry_version",
    "sentry_client",
    "sentry_timestamp",
];

/// A request that brings an upload.
pub(crate) struct Visit {
    app: Arc<App>,
    pub(crate) head: Parts,
    body: Body,
    begun: Instant,
    /// Who sends, once that is known: the key may stand in the body.
    admitted: Option<KeyGrant>,
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
            admitted: None,
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
        mut format: Format<'_>,
        mut told: Told,
    ) -> Result<Arrival, Rejection> {
        let Self {
            app,
            head,
            body,
            admitted,
            ..
        } = self;
        Span::current().record("project_id", project_id.get());
        let length = app.intake.check_head(&head.headers)?;
        let opened = open(app, head, body, project_id, grant, &mut format).await;
        *admitted = grant.get().cloned();
        let Opened {
            body,
            party,
            place,
            _request,
        } = opened?;
        let client = head
            .extensions
            .get::<Peer>()
            .and_then(|peer| client_address(peer.0.ip(), &head.headers, &app.trusted_proxies));
        let sender = Sender {
            event_id: if wants_short_id(head) {
                EventId::with_short_form(project_id)
            } else {
                app.delivery.fresh_event_id()
            },
            project_id,
            remote_addr: client.map(|address| address.to_string()),
        };
        told.sdk = sdk::name(&head.uri, &head.headers);
        told.query = crash_parameters(&head.uri, &mut told.warnings);
        let mut is_left = false;
        let space = party.key().map(|key| key.space());
        let draft = app.delivery.reserve_for(length.unwrap_or_default(), space);
        let delivered = Delivered {
            headers: &head.headers,
            body,
            party,
            is_left: &mut is_left,
            draft: draft.map_err(Rejection::Spool)?,
        };
        let taken = app.intake.receive(sender, format, delivered, told).await?;
        if is_left {
            // The client wants to send all of it before it reads the answer.
            refused_body::drain(&mut self.body, app.admission.is_scarce()).await;
        }
        match taken {
            Taken::Upload(upload) => {
                let grant = grant.get().cloned().ok_or(KeyRefusal::Missing)?;
                let about = upload.payload.attached_to;
                let receipt = publish(app, endpoint, grant, *upload, place).await?;
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
            let claimed = || Claimed::of(&self.head);
            let sender = self.admitted.as_ref().map_or_else(claimed, Claimed::from);
            let headers = &self.head.headers;
            told(
                self.app
                    .refuse_sender(rejection, sender, headers, self.body),
            )
        });
        let metrics = &self.app.services.metrics;
        metrics
            .upload_duration_seconds
            .observe(self.begun.elapsed().as_secs_f64());
        answer
    }
}

/// What a query says about a crash.
fn crash_parameters(uri: &Uri, warnings: &mut Vec<String>) -> Vec<Field> {
    let is_about_crash = |(name, _): &Field| !REQUEST_PARAMETERS.contains(&name.as_str());
    let mut parameters: Vec<Field> = query::pairs(uri).filter(is_about_crash).collect();
    let surplus = parameters.len().saturating_sub(FORM_FIELDS_MAX);
    if surplus > 0 {
        parameters.truncate(FORM_FIELDS_MAX);
        warnings.push(format!(
            "{surplus} parameters of the query were left out: expected at most {FORM_FIELDS_MAX}"
        ));
    }
    parameters
}

/// A body that may be read, and what the upload holds beside it to its answer.
struct Opened<'b> {
    body: OpenBody<'b>,
    party: Party,
    place: Permit,
    _request: Option<Charge>,
}

/// Nothing but the request itself is held until its key is known, and nothing while waiting for the rest.
async fn open<'b>(
    app: &App,
    head: &Parts,
    body: &'b mut Body,
    project: ProjectId,
    grant: &OnceLock<KeyGrant>,
    format: &mut Format<'_>,
) -> Result<Opened<'b>, Rejection> {
    // INVARIANT: `Routes::answer` adds it to every request.
    let caller = head
        .extensions
        .get::<Caller>()
        .expect("a request has a caller");
    let encoding = app.intake.encoding(&head.headers, format)?;
    let charge = |party: &Party| app.admission.charge_request(party, caller.request_bytes);
    let (place, body, party) = match (grant.get(), format) {
        (Some(grant), _) => {
            let party = app.admission.with_key(&caller.party, grant);
            let _request = charge(&party)?;
            let (place, body) = app.intake.open(body, project, encoding, &party).await?;
            return Ok(Opened {
                body,
                party,
                place,
                _request,
            });
        }
        (None, Format::Envelope { admit, .. }) => {
            let _request = charge(&app.admission.without_key(&caller.party))?;
            let admit = |header: &EnvelopeHeader| {
                admit(header)?;
                Ok(grant.get().cloned().ok_or(KeyRefusal::Missing)?)
            };
            let opened = app
                .intake
                .open_keyless(body, project, encoding, &caller.party, admit);
            opened.await?
        }
        (None, Format::Crash | Format::Late(_) | Format::Unreal) => {
            return Err(KeyRefusal::Missing.into());
        }
    };
    let _request = charge(&party)?;
    Ok(Opened {
        body,
        party,
        place,
        _request,
    })
}

fn wants_short_id(head: &Parts) -> bool {
    query::value(&head.uri, ID_FORM.0).is_some_and(|form| form.eq_ignore_ascii_case(ID_FORM.1))
}
