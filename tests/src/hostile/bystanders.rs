//! Clients that have nothing to do with an attack: 20 uploads a second with a key of their own, and somebody who asks
//! `/readyz` all the time.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::dumps;
use crate::http::Request;
use crate::multipart::Form;
use crate::settings::OTHER_KEY;
use crate::stack::Stack;

/// Between two uploads of one client.
const PAUSE: Duration = Duration::from_millis(200);
/// Clients: four of five uploads a second each.
const CLIENTS: usize = 4;
/// Between two looks at `/readyz`.
const LOOK: Duration = Duration::from_millis(250);
const DUMP_BYTES: usize = 30_000;

/// Makes every upload's dump another one.
static NUMBER: AtomicU32 = AtomicU32::new(1);

/// Bystanders at work; they end with [`Bystanders::stop`].
pub struct Bystanders {
    leave: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    threads: Vec<JoinHandle<()>>,
}

/// What one of them does again and again.
type Work = Box<dyn Fn(&Mutex<Seen>) + Send>;

#[derive(Debug, Default)]
struct Seen {
    times: Vec<Duration>,
    refused: Vec<String>,
    looks: usize,
    slowest_look: Duration,
    not_ready: Vec<String>,
}

/// What they felt.
#[derive(Debug)]
pub struct Felt {
    /// Uploads that were answered with 200.
    pub uploads: u64,
    /// The time that 99 of 100 uploads stayed below.
    pub p99: Duration,
    /// The slowest answer of `/readyz`.
    pub slowest_look: Duration,
}

impl Bystanders {
    /// Begins: uploads to project 2 with its key, and looks at the relay's admin listener.
    pub fn start(stack: &Stack) -> Self {
        let leave = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(Seen::default()));
        let listen = stack.listen().to_owned();
        let admin = stack.admins().swap_remove(0);
        let run = |work: Work, pause: Duration| {
            let (leave, seen) = (Arc::clone(&leave), Arc::clone(&seen));
            thread::spawn(move || {
                let mut next = Instant::now();
                while !leave.load(Ordering::Relaxed) {
                    work(&seen);
                    next = (next + pause).max(Instant::now());
                    thread::park_timeout(next.saturating_duration_since(Instant::now()));
                }
            })
        };
        let mut threads = Vec::new();
        for _ in 0..CLIENTS {
            let listen = listen.clone();
            threads.push(run(Box::new(move |seen| upload(&listen, seen)), PAUSE));
        }
        threads.push(run(Box::new(move |seen| look(&admin, seen)), LOOK));
        Self {
            leave,
            seen,
            threads,
        }
    }

    /// Ends, and insists that every upload got its 200 and `/readyz` said 200 throughout.
    pub fn stop(self) -> Felt {
        self.leave.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.thread().unpark();
            thread.join().expect("a bystander ends");
        }
        let seen = std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        let Seen {
            mut times,
            refused,
            looks,
            slowest_look,
            not_ready,
        } = seen;
        assert!(refused.is_empty(), "{} refused: {refused:?}", refused.len());
        assert!(
            not_ready.is_empty(),
            "{} of {looks}: {not_ready:?}",
            not_ready.len()
        );
        assert!(!times.is_empty() && looks > 0, "nobody was there");
        times.sort_unstable();
        Felt {
            uploads: times.len() as u64,
            p99: times[times.len() * 99 / 100],
            slowest_look,
        }
    }
}

fn upload(listen: &str, seen: &Mutex<Seen>) {
    let mut dump = dumps::sized(DUMP_BYTES, 1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    dump[20..24].copy_from_slice(&number.to_le_bytes());
    let path = format!("/api/2/minidump/?sentry_key={OTHER_KEY}");
    let request = Request::post(path, Form::minidump(&dump).finish())
        .header("Content-Type", &Form::content_type());
    let begun = Instant::now();
    let answer = request.try_send(listen);
    let took = begun.elapsed();
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    match answer {
        Ok(answer) if answer.status == 200 => seen.times.push(took),
        Ok(answer) => seen.refused.push(format!(
            "{} after {took:.1?}: {}",
            answer.status,
            answer.text()
        )),
        Err(error) => seen.refused.push(format!("{error} after {took:.1?}")),
    }
}

fn look(admin: &str, seen: &Mutex<Seen>) {
    let begun = Instant::now();
    let answer = Request::get("/readyz").try_send(admin);
    let took = begun.elapsed();
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    seen.looks += 1;
    seen.slowest_look = seen.slowest_look.max(took);
    match answer {
        Ok(answer) if answer.status == 200 => {}
        Ok(answer) => seen.not_ready.push(answer.text()),
        Err(error) => seen.not_ready.push(error.to_string()),
    }
}
