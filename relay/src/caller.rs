//! Who a request comes from, and what it holds by being under way: its head, its task, and on HTTP/2 the connection's
//! window. Where there is no more of that, a request is refused before it is looked at.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::http::{Request, Version};
use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};

use crate::admission::Admission;
use crate::limits::{HTTP2_CONNECTION_BYTES, REQUEST_OWN_BYTES};
use crate::places::{HolderName, Party, Permit, Shortage};
use crate::wire::RefusedHead;

/// What a connection's requests can expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Terms {
    /// Each goes to its endpoint.
    Served,
    /// There was no place for the connection: one is refused, whatever it is, and the connection ends.
    Refused,
}

/// What all requests of one connection have in common.
#[derive(Clone, Debug)]
pub(crate) struct Connected {
    pub(crate) peer: SocketAddr,
    pub(crate) party: Party,
    pub(crate) terms: Terms,
    pub(crate) refused: RefusedHead,
    pub(crate) windows: Windows,
}

/// The permit for an HTTP/2 connection's window, while any request on it is under way. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Windows(Arc<Mutex<Weak<Permit>>>);

/// Who sends a request. Cloning shares what it holds.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) party: Party,
    /// What the request holds by itself.
    pub(crate) request_bytes: u64,
    _request: Arc<Permit>,
    _window: Option<Arc<Permit>>,
}

/// A body that is part of what the request holds, wherever it is read to its end.
struct HeldBody {
    body: Incoming,
    _caller: Caller,
}

impl Caller {
    /// Takes what the request needs to be looked at.
    pub(crate) fn new<B>(
        admission: &Admission,
        connected: &Connected,
        request: &Request<B>,
        client: Option<IpAddr>,
    ) -> Result<Self, Shortage> {
        let request_bytes = REQUEST_OWN_BYTES + head_bytes(request);
        let direct = connected.peer.ip().to_canonical();
        let party = &match client {
            // A proxy's connections are many clients': each is a peer of its own.
            Some(client) if client != direct => {
                Party::of_peer(admission.holders.of(HolderName::peer(client)))
            }
            Some(_) | None => connected.party.clone(),
        };
        let permit = admission.requests.try_take(party, request_bytes)?;
        let window = match request.version() {
            Version::HTTP_2 => Some(connected.windows.permit(admission, &connected.party)?),
            _ => None,
        };
        Ok(Self {
            party: party.clone(),
            request_bytes,
            _request: Arc::new(permit),
            _window: window,
        })
    }

    /// The request's body, which holds what the request does.
    pub(crate) fn holding(&self, body: Incoming) -> Body {
        Body::new(HeldBody {
            body,
            _caller: self.clone(),
        })
    }
}

impl Windows {
    fn permit(&self, admission: &Admission, party: &Party) -> Result<Arc<Permit>, Shortage> {
        let mut permit = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(permit) = permit.upgrade() {
            return Ok(permit);
        }
        let bytes = HTTP2_CONNECTION_BYTES.min(admission.windows.total() / 2);
        let taken = Arc::new(admission.windows.try_take(party, bytes)?);
        *permit = Arc::downgrade(&taken);
        Ok(taken)
    }
}

fn head_bytes<B>(request: &Request<B>) -> u64 {
    let uri = request.uri().path().len() + request.uri().query().map_or(0, str::len);
    let headers = request.headers().iter();
    let headers: usize = headers
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    (uri + headers) as u64
}

impl HttpBody for HeldBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
