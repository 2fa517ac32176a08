//! A TCP proxy between a client and a broker, and what can go wrong on a network: delay, silence, reset, and the cut
//! after a request went through and before its answer came back.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How often a waiting pump looks at the fault again.
const LOOK: Duration = Duration::from_millis(50);

/// What the proxy does to bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Each piece is this late, in both directions.
    Delay(Duration),
    /// Nothing passes, nobody is told: connections stay open.
    BlackHole,
    /// Open connections are closed in good order, new ones too.
    Refuse,
    /// Open connections are reset, new ones too: what was on its way is gone.
    Reset,
    /// What the client sends passes; at the first byte of an answer the connection is closed instead.
    CutAnswers,
}

/// A running proxy.
pub struct Proxy {
    port: u16,
    state: Arc<State>,
    accepting: Option<JoinHandle<()>>,
}

struct State {
    fault: Mutex<Fault>,
    stopped: AtomicBool,
}

impl Proxy {
    /// Listens on `port` of the loopback and passes connections on to `target` (`host:port`).
    pub fn start(port: u16, target: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the proxy's port is free");
        let state = Arc::new(State {
            fault: Mutex::new(Fault::None),
            stopped: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        let target = target.to_owned();
        let accepting = thread::spawn(move || accept(&listener, &target, &shared));
        Self {
            port,
            state,
            accepting: Some(accepting),
        }
    }

    /// `host:port` of the proxy.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// From now on this happens to every connection, those that are open too.
    pub fn set(&self, fault: Fault) {
        *self
            .state
            .fault
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = fault;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        // The accepting thread looks at the flag after each connection: this is one.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        if let Some(accepting) = self.accepting.take() {
            accepting.join().ok();
        }
    }
}

impl State {
    fn fault(&self) -> Fault {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }
}

fn accept(listener: &TcpListener, target: &str, state: &Arc<State>) {
    let mut pumps = Vec::new();
    for client in listener.incoming() {
        if state.stopped() {
            break;
        }
        let Ok(client) = client else { continue };
        match state.fault() {
            Fault::Refuse => continue,
            Fault::Reset => {
                reset_on_close(&client);
                continue;
            }
            Fault::None | Fault::Delay(_) | Fault::BlackHole | Fault::CutAnswers => {}
        }
        let Ok(server) = TcpStream::connect(target) else {
            continue;
        };
        for (from, to, answers) in [(&client, &server, false), (&server, &client, true)] {
            let from = from.try_clone().expect("a socket can be shared");
            let to = to.try_clone().expect("a socket can be shared");
            let state = Arc::clone(state);
            pumps.push(thread::spawn(move || pump(from, to, answers, &state)));
        }
    }
    for pump in pumps {
        pump.join().ok();
    }
}

/// Passes bytes on in one direction until either side closes or a fault says otherwise.
fn pump(mut from: TcpStream, mut to: TcpStream, answers: bool, state: &State) {
    from.set_read_timeout(Some(LOOK))
        .expect("a socket has a read timeout");
    let mut piece = vec![0; 64 * 1024];
    while !state.stopped() {
        let fault = state.fault();
        match fault {
            Fault::Refuse => break,
            Fault::Reset => {
                // The other direction's pump does the same; the last to let go of a socket resets its connection.
                reset_on_close(&from);
                reset_on_close(&to);
                return;
            }
            Fault::BlackHole => {
                thread::park_timeout(LOOK);
                continue;
            }
            Fault::None | Fault::Delay(_) | Fault::CutAnswers => {}
        }
        let count = match from.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                continue;
            }
            Err(_) => break,
        };
        if answers && state.fault() == Fault::CutAnswers {
            break;
        }
        if let Fault::Delay(delay) = fault {
            thread::park_timeout(delay);
        }
        if to.write_all(&piece[..count]).is_err() {
            break;
        }
    }
    // Either side may be closed already.
    from.shutdown(Shutdown::Both).ok();
    to.shutdown(Shutdown::Both).ok();
}

fn reset_on_close(socket: &TcpStream) {
    rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO))
        .expect("a socket can be told how to close");
}
